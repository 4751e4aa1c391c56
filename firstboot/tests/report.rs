//! Tests of the first-start report: it is read back as the same, invalid text is refused, and no
//! bytes make the parser panic.

use firstboot::job::Mac;
use firstboot::report::{
    heard, heard_signed, is_whole, message, parse, parse_answer, refused, Address, Answer, Outcome,
    Report, ReportError, System, MAX_ADDRESSES, MAX_ANSWER_BYTES, MAX_BYTES, MAX_LINE_BYTES,
};
use proptest::prelude::*;

const DIGITS: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn example() -> Report {
    Report {
        job: 17,
        target: "4c4c4544-0042".into(),
        result: Outcome::Failed {
            step: Some("run.2".into()),
            reason: "exit code 3".into(),
        },
        name: "LAB-07".into(),
        system: System::Windows {
            sid: Some("S-1-5-21-1-2-3".into()),
        },
        addresses: vec![Address {
            mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
            ip: "10.0.0.7".parse().unwrap(),
            prefix: 24,
        }],
    }
}

const TEXT: &str = "\
diskcast-first-start 1
job=17
target=4c4c4544-0042
result=failed
step=run.2
reason=exit code 3
name=LAB-07
system=windows
sid=S-1-5-21-1-2-3
address=52:54:00:12:34:56 10.0.0.7/24
";

fn whole(lines: &str) -> Vec<u8> {
    message(lines, DIGITS).into_bytes()
}

#[test]
fn the_text_is_that_of_the_protocol() {
    assert_eq!(example().encode(), TEXT);
    let bytes = whole(TEXT);
    let read = parse(&bytes).unwrap();
    assert_eq!(read.report, example());
    assert_eq!(read.signed, TEXT.as_bytes());
    assert_eq!(read.digits, DIGITS);
}

#[test]
fn lines_come_in_any_order_and_unknown_keys_are_a_later_versions() {
    let bytes = whole(
        "diskcast-first-start 1\nmachine-id=0123\nsystem=linux\nkernel=6.12 = new\naddress=52:54:00:12:34:56 fe80::1/64\n\
         name=lab-07\nresult=done\ntarget=t\njob=3\n",
    );
    let report = parse(&bytes).unwrap().report;
    assert_eq!(report.result, Outcome::Done);
    assert_eq!(
        report.system,
        System::Linux {
            machine_id: Some("0123".into())
        }
    );
    assert_eq!(
        report.addresses[0].to_string(),
        "52:54:00:12:34:56 fe80::1/64"
    );
}

#[test]
fn what_is_no_report_is_refused() {
    let without = |line: &str| TEXT.replace(line, "");
    let more = |line: &str| format!("{TEXT}{line}\n");
    let long = |bytes: usize| more(&format!("later={}", "x".repeat(bytes - "later=".len())));
    assert!(parse(&whole(&long(MAX_LINE_BYTES))).is_ok());
    let addresses = "address=52:54:00:12:34:56 10.0.0.7/24\n".repeat(MAX_ADDRESSES - 1);
    assert!(parse(&whole(&(TEXT.to_string() + &addresses))).is_ok());
    let cases: Vec<(String, ReportError)> = vec![
        (without("diskcast-first-start 1\n"), ReportError::NotAReport),
        (TEXT.replace("start 1", "start 2"), ReportError::NotAReport),
        (without("job=17\n"), ReportError::Missing("job")),
        (
            without("target=4c4c4544-0042\n"),
            ReportError::Missing("target"),
        ),
        (without("result=failed\n"), ReportError::Missing("result")),
        (
            without("reason=exit code 3\n"),
            ReportError::Missing("reason"),
        ),
        (without("name=LAB-07\n"), ReportError::Missing("name")),
        (without("system=windows\n"), ReportError::Missing("system")),
        (TEXT.replace("=17", "=+17"), ReportError::Value("job")),
        (TEXT.replace("=17", "="), ReportError::Value("job")),
        (
            TEXT.replace("=17", "=99999999999999999999"),
            ReportError::Value("job"),
        ),
        (TEXT.replace("=failed", "=done"), ReportError::Value("step")),
        (
            TEXT.replace("=failed", "=well"),
            ReportError::Value("result"),
        ),
        (
            TEXT.replace("=windows", "=linux"),
            ReportError::Value("sid"),
        ),
        (
            TEXT.replace("=windows", "=dos"),
            ReportError::Value("system"),
        ),
        (more("machine-id=1"), ReportError::Value("machine-id")),
        (TEXT.replace("7/24", "7/33"), ReportError::Value("address")),
        (TEXT.replace("7/24", "7/+4"), ReportError::Value("address")),
        (TEXT.replace("7/24", "7"), ReportError::Value("address")),
        (
            TEXT.replace("56 10", "5g 10"),
            ReportError::Value("address"),
        ),
        (more("name=LAB-08"), ReportError::TooMany),
        (
            format!("{TEXT}{addresses}address=52:54:00:12:34:56 10.0.0.7/24\n"),
            ReportError::TooMany,
        ),
        (more("nothing"), ReportError::NoValue),
        (more(""), ReportError::NoValue),
        (more("later=\u{7}"), ReportError::NotText),
        (TEXT.replace('\n', "\r\n"), ReportError::NotAReport),
        (long(MAX_LINE_BYTES + 1), ReportError::LongLine),
        (
            (0..9).fold(TEXT.to_string(), |text, at| {
                format!("{text}later{at}={}\n", "x".repeat(500))
            }),
            ReportError::TooLong,
        ),
    ];
    for (text, error) in cases {
        assert_eq!(parse(&whole(&text)).unwrap_err(), error, "{text}");
    }
    let end = |end: &str| [TEXT, end].concat().into_bytes();
    for bad in [
        String::new(),
        format!("hmac={DIGITS}"),
        format!("hmac={DIGITS}\nname=LAB-08\n"),
        format!("hmac={DIGITS}\n\n"),
        format!("hmac={}\n", DIGITS.to_uppercase()),
        format!("hmac={}\n", &DIGITS[1..]),
        format!("hmac=é{}\n", &DIGITS[2..]),
        "hmac=\n".into(),
    ] {
        assert_eq!(parse(&end(&bad)).unwrap_err(), ReportError::NoHmac, "{bad}");
    }
    let mut latin = whole(TEXT);
    latin[30] = 0xE9;
    assert!(parse(&latin).is_err());
}

#[test]
fn a_message_is_whole_once_its_last_line_ends() {
    let bytes = whole(TEXT);
    for cut in 0..bytes.len() {
        assert!(!is_whole(&bytes[..cut]), "{cut}");
        assert!(parse(&bytes[..cut]).is_err(), "{cut}");
    }
    assert!(is_whole(&bytes));
}

#[test]
fn values_lose_control_characters_and_are_cut_to_fit() {
    let long = "é\n".repeat(2000);
    let report = Report {
        job: u64::MAX,
        target: "t".repeat(2000),
        result: Outcome::Failed {
            step: Some(long.clone()),
            reason: long.clone(),
        },
        name: long.clone(),
        system: System::Linux {
            machine_id: Some(long),
        },
        addresses: vec![
            Address {
                mac: Mac([0xFF; 6]),
                ip: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
                prefix: 128,
            };
            40
        ],
    };
    let bytes = whole(&report.encode());
    assert!(bytes.len() <= MAX_BYTES, "{}", bytes.len());
    let read = parse(&bytes).unwrap().report;
    assert!(read.name.starts_with("é é "), "{}", read.name);
    assert_eq!(read.addresses.len(), MAX_ADDRESSES);
}

#[test]
fn answers_are_read_as_they_are_written() {
    let line = heard(DIGITS);
    assert!(line.len() <= MAX_ANSWER_BYTES);
    assert_eq!(parse_answer(line.as_bytes()), Some(Answer::Heard(DIGITS)));
    assert_eq!(parse_answer(refused().as_bytes()), Some(Answer::Refused));
    assert_eq!(heard_signed(DIGITS), format!("{DIGITS}heard"));
    for bad in [
        "",
        "\n",
        "diskcast-first-start heard\n",
        "diskcast-first-start heard 00\n",
        "diskcast-first-start refused",
        "HTTP/1.1 400 Bad Request\r\n",
    ] {
        assert_eq!(parse_answer(bad.as_bytes()), None, "{bad:?}");
    }
    assert_eq!(parse_answer(&[b'\n'; 4000]), None);
}

fn text() -> impl Strategy<Value = String> {
    "[ -~äß=]{0,40}"
}

fn reports() -> impl Strategy<Value = Report> {
    let result = prop_oneof![
        Just(Outcome::Done),
        (proptest::option::of(text()), text())
            .prop_map(|(step, reason)| Outcome::Failed { step, reason }),
    ];
    let system = prop_oneof![
        proptest::option::of(text()).prop_map(|sid| System::Windows { sid }),
        proptest::option::of(text()).prop_map(|machine_id| System::Linux { machine_id }),
    ];
    let address =
        (any::<[u8; 6]>(), any::<std::net::IpAddr>(), 0..=32_u8).prop_map(|(mac, ip, prefix)| {
            Address {
                mac: Mac(mac),
                ip,
                prefix,
            }
        });
    let addresses = proptest::collection::vec(address, 0..=MAX_ADDRESSES);
    (any::<u64>(), text(), result, text(), system, addresses).prop_map(
        |(job, target, result, name, system, addresses)| Report {
            job,
            target,
            result,
            name,
            system,
            addresses,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(report in reports()) {
        let signed = report.encode();
        let bytes = whole(&signed);
        let read = parse(&bytes).unwrap();
        prop_assert_eq!(read.report, report);
        prop_assert_eq!(read.signed, signed.as_bytes());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = (parse(&bytes), is_whole(&bytes), parse_answer(&bytes));
        let lines = [b"diskcast-first-start 1\n", bytes.as_slice()].concat();
        let _ = (parse(&lines), is_whole(&lines));
    }

    #[test]
    fn a_changed_message_is_never_read_with_other_signed_bytes(
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = whole(TEXT);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = parse(&bytes) {
            prop_assert_eq!(read.signed, &bytes[..TEXT.len()]);
        }
    }
}
