//! The file format: accepted text, written text, and every mistake.

mod snapshot;

use facts::order::Grow;
use proptest::prelude::*;
use template::schema::{
    Checked, Checks, Template, json_schema, parse, parse_with, set, summary, to_toml,
};

/// Files that both the parser and the JSON Schema accept.
const GOOD: &[&str] = &[
    include_str!("templates/minimal.toml"),
    include_str!("templates/everything.toml"),
    include_str!("templates/linux.toml"),
];

/// Files that both refuse, for mistakes a schema can express.
const BAD: &[&str] = &[
    "",
    "schema = 2",
    "schema = '1'",
    "schema = 1\ncolour = 'red'",
    "schema = 1\nend = 'reboot'",
    "schema = 1\n[identity]\nhostname = 5",
    "schema = 1\n[identity]\nstart = -1",
    "schema = 1\n[network]\nprefix = 31",
    "schema = 1\n[network]\ndns = '10.0.0.1'",
    "schema = 1\n[windows]\nsid = 'new'",
    "schema = 1\n[windows]\nregenerate_ids = 'yes'",
    "schema = 1\n[linux]\nregenerate = ['machineid']",
    "schema = 1\n[[user]]\ngroups = ['users']",
    "schema = 1\n[[copy]]\nfrom = 'a'",
    "schema = 1\n[[run]]\ncommand = 'x'\nok_codes = ['0']",
    "schema = 1\n[user]\nname = 'x'",
    "schema = 1\n[first_start]\nreport = 'yes'",
    "schema = 1\n[first_start]\nconsole = '10.1.0.5:5003'",
    "schema = 1\n[first_start]\nconsole = ['10.1.0.5:1', '10.1.0.5:2', '10.1.0.5:3', '10.1.0.5:4', '10.1.0.5:5']",
];

#[test]
fn ten_mistakes_are_ten_errors_with_their_lines() {
    let lines: Vec<String> = parse(include_str!("templates/ten-mistakes.toml"))
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    snapshot::hold(
        "templates/ten-mistakes.txt",
        &lines.join(
            "
",
        ),
    );
    assert_eq!(lines.len(), 10);
}

#[test]
fn what_is_written_reads_the_same() {
    for text in GOOD {
        let template = parse(text).unwrap();
        let written = to_toml(&template);
        assert_eq!(parse(&written).unwrap(), template, "{written}");
        // Serde's derived reader gives the same template.
        assert_eq!(toml::from_str::<Template>(text).unwrap(), template);
        let json = serde_json::to_string(&template).unwrap();
        assert_eq!(serde_json::from_str::<Template>(&json).unwrap(), template);
    }
    let plain = Template::default();
    assert_eq!(parse(&to_toml(&plain)).unwrap(), plain);
}

#[test]
fn the_schema_accepts_what_the_parser_accepts() {
    let schema = json_schema();
    for text in GOOD {
        assert!(parse(text).is_ok());
        assert_eq!(accepts(&schema, text), Ok(()), "{text}");
    }
    for text in BAD {
        assert!(parse(text).is_err(), "{text}");
        assert!(accepts(&schema, text).is_err(), "{text}");
    }
}

#[test]
fn every_key_of_the_schema_is_described() {
    fn walk(value: &serde_json::Value, path: &str, bare: &mut Vec<String>) {
        let Some(map) = value.as_object() else { return };
        if let Some(properties) = map.get("properties").and_then(|v| v.as_object()) {
            for (key, property) in properties {
                if property.get("description").is_none() {
                    bare.push(format!("{path}.{key}"));
                }
            }
        }
        for (key, inner) in map {
            walk(inner, &format!("{path}/{key}"), bare);
        }
    }
    let mut bare = Vec::new();
    walk(&json_schema(), "", &mut bare);
    assert_eq!(bare, Vec::<String>::new());
}

#[test]
fn keys_are_set_by_path_and_win() {
    let text = include_str!("templates/everything.toml");
    let set_to = |path: &str, value: &str| {
        let set = [(path.to_owned(), value.to_owned())];
        parse_with(text, &set, &Checks::default())
    };
    assert_eq!(set_to("end", "restart").unwrap().end.as_str(), "restart");
    assert_eq!(set_to("grow", "2").unwrap().grow, Some(Grow::Number(2)));
    // A value for a text key is text, whatever it looks like.
    assert_eq!(set_to("name", "101").unwrap().name.as_deref(), Some("101"));
    let dns = set_to("network.dns", "[\"10.20.0.3\"]")
        .unwrap()
        .network
        .dns;
    assert_eq!(dns.len(), 1);
    // A list as people type it, and an empty one.
    let dns = |typed: &str| set_to("network.dns", typed).unwrap().network.dns;
    assert_eq!(dns("10.20.0.3").len(), 1);
    assert_eq!(dns("10.20.0.3, 10.20.0.4").len(), 2);
    assert_eq!(dns("").len(), 0);
    let users = set_to("user.1.groups", "administrators, Remote Desktop Users")
        .unwrap()
        .users;
    assert_eq!(users[0].groups.len(), 2);
    let typed = [("partitions".to_owned(), "1, 3".to_owned())];
    let some = parse_with("schema = 1\n", &typed, &Checks::default()).unwrap();
    assert_eq!(some.partitions, [1, 3].into());
    let wrong = set_to("network.dns", "10.20.0.3, x").unwrap_err();
    assert!(wrong[0].to_string().contains("`x` is not"), "{wrong:?}");
    let users = set_to("user.1.full_name", "Some One").unwrap().users;
    assert_eq!(users[0].full_name.as_deref(), Some("Some One"));
    assert_eq!(set_to("user.2.name", "second").unwrap().users.len(), 2);

    for (path, value, want) in [
        (
            "network.mdoe",
            "dhcp",
            "network.mdoe: unknown key in [network]; did you mean `mode`?",
        ),
        (
            "network.mode",
            "dchp",
            "network.mode: \"dchp\" is not known; use one of keep, dhcp, static; did you mean `dhcp`?",
        ),
        (
            "user.9.name",
            "x",
            "user.9.name: there is no user.9; user has 1",
        ),
        (
            "user.name",
            "x",
            "user.name: user is a list; write user.1 for its first",
        ),
        ("end.x", "1", "end.x: end is not a table"),
        (
            "windows.allow_duplicate_sid",
            "maybe",
            "windows.allow_duplicate_sid: expected true or false, found a string",
        ),
        ("", "1", "a key is needed, such as network.mode"),
    ] {
        let mistakes = set_to(path, value).unwrap_err();
        assert_eq!(
            (mistakes[0].line, mistakes[0].to_string().as_str()),
            (0, want),
            "{path}"
        );
    }
    let mut template = parse("schema = 1\nimage = 'a.dcimg'").unwrap();
    set(&mut template, "network.mode", "dhcp").unwrap();
    assert_eq!(template.network.mode.as_str(), "dhcp");
    let before = template.clone();
    set(&mut template, "network.prefix", "24").unwrap_err();
    assert_eq!(template, before);
}

#[test]
fn secrets_are_listed_without_their_values() {
    let template = parse(GOOD[1]).unwrap();
    let found: Vec<String> = template
        .secrets()
        .iter()
        .map(|secret| format!("{} {}: {}", secret.name.0, secret.reference, secret.what))
        .collect();
    let want = [
        "user.labadmin.password ref:labadmin: password of labadmin",
        "membership.credential ref:join-corp: credential for making machine accounts",
    ];
    assert_eq!(found, want);
}

#[test]
fn a_mark_and_other_line_ends_change_nothing() {
    let windows = format!("\u{feff}{}", GOOD[1].replace('\n', "\r\n"));
    assert_eq!(parse(&windows), parse(GOOD[1]));
    let mistakes = parse("\u{feff}schema = 1\r\nedn = 'none'\r\n").unwrap_err();
    assert_eq!((mistakes[0].line, mistakes[0].column), (2, 1));
    // A number is accepted where people write one.
    let number = parse("schema = 1\ngrow = 2").unwrap();
    assert_eq!(number.grow, Some(Grow::Number(2)));
    assert!(parse("schema = 1\ngrow = 0").is_err());
}

#[test]
fn partitions_are_numbers_and_one_goes_onto_one() {
    let chosen = parse("schema = 1\npartitions = [3, 1]").unwrap();
    assert_eq!(Vec::from_iter(chosen.partitions), [1, 3]);
    let onto = parse("schema = 1\npartitions = [2]\nonto = 3").unwrap();
    assert_eq!(onto.onto, Some(3));
    for wrong in [
        "partitions = [0]",
        "partitions = [8193]",
        "partitions = [1, 1]",
        "partitions = 1",
        "onto = 3",
        "partitions = [1, 2]\nonto = 3",
    ] {
        let mistakes = parse(&format!("schema = 1\n{wrong}")).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{wrong}: {mistakes:?}");
    }
}

#[test]
fn the_callers_own_checks_are_asked() {
    let rate = |_: &str| -> Checked { Err("not a rate".into()) };
    let checks = Checks {
        rate: &rate,
        ..Checks::default()
    };
    let mistakes = parse_with("schema = 1\n\nrate = 'fast'", &[], &checks).unwrap_err();
    assert_eq!(
        mistakes[0].to_string(),
        "line 3, column 8: rate: not a rate"
    );
}

#[test]
fn contradictions_stand_at_their_keys() {
    const STATIC: &str = "[network]\nmode = 'static'\nprefix = 24\n";
    let fixed = |rest: &str| format!("{STATIC}{rest}");
    for (text, want) in [
        (
            "[membership]\nworkgroup = 'A'\ndomain = 'a.b'\nblobs = 'x'".into(),
            "line 3, column 13: membership.workgroup: a machine is in a workgroup or in a domain; leave one of them out",
        ),
        (STATIC.into(), "network.range: mode is static: a range is needed"),
        (fixed("range = '10.0.0.5-10.0.1.5'"), "does not lie in one network of 24 bits"),
        (fixed("range = '10.0.0.0-10.0.0.5'"), "10.0.0.0 is in it, which names the network 10.0.0.0/24"),
        (fixed("range = '10.0.0.9-10.0.0.255'"), "which means every machine"),
        (
            fixed("range = '10.0.0.5-10.0.0.9'\ngateway = '10.0.0.7'"),
            "line 6, column 11: network.gateway: 10.0.0.7 lies in the range",
        ),
        (
            fixed("range = '10.0.0.5-10.0.0.9'\ngateway = '10.0.1.1'"),
            "10.0.1.1 is no machine of the network 10.0.0.0/24",
        ),
        (fixed("range = '10.0.0.5'\nnic = 'all'"), "one address cannot be given to all cards"),
        ("[network]\nmode = 'static'\nrange = '10.0.0.5'".into(), "the bits of the network are needed"),
        ("[network]\nmode = 'dhcp'\ngateway = '10.0.0.1'".into(), "goes with mode = \"static\", and mode is dhcp"),
        ("[network]\ndns = ['10.0.0.1']".into(), "mode is keep"),
        ("[identity]\nhostname = 'pc-{ip_last}'".into(), "known only with network.mode"),
        ("[membership]\nou = 'OU=x'".into(), "goes with a domain"),
        ("[membership]\ndomain = 'corp.example'\nblobs = 'x'".into(), "joins under its own name"),
        ("[identity]\nhostname = 'a{n}'\n[membership]\ndomain = 'corp.example'".into(), "method is blob"),
        (
            "[identity]\nhostname = 'a{n}'\n[membership]\ndomain = 'corp.example'\nmethod = 'samba'".into(),
            "method is samba",
        ),
        ("[membership]\nworkgroup = 'SIXTEEN-LETTERS-'".into(), "at most 15"),
        ("[membership]\nworkgroup = 'A/B'".into(), "'/' cannot be"),
        ("[[user]]\nname = 'Lab'\n[[user]]\nname = 'lab'".into(), "user.2.name: lab is user 1 already"),
        (
            "[[copy]]\nfrom = 'a'\nto = 'C:\\A'\n[[copy]]\nfrom = 'b'\nto = 'c:/a'".into(),
            "copy.2.to: copy 1 lies there already",
        ),
        (
            "[[copy]]\nfrom = 'a'\nto = 'C:\\A'\n[[copy]]\nfrom = 'b'\nto = '/a'".into(),
            "is a path of Linux, and copy 1 goes to a path of Windows",
        ),
        ("[[copy]]\nfrom = 'a'\nto = 'a'\nexecute = true".into(), "neither a Windows path"),
        ("[[copy]]\nfrom = 'a'\nto = '/a/../b'".into(), "would leave its place"),
        ("[[copy]]\nfrom = 'a'\nto = '/a'\narguments = 'x'".into(), "goes with execute"),
        ("[[run]]\ncommand = 'x'\nok_codes = []\nreboot_codes = []".into(), "can only fail"),
        ("[[user]]\nname = 'x'\npassword = 'hunter2'".into(), "never written into a template"),
    ] {
        let text: String = text;
        let mistakes = parse(&format!("schema = 1\n{text}")).unwrap_err();
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert!(lines.iter().any(|line| line.contains(want)), "{text}\n{lines:?}");
        assert!(!lines.concat().contains("hunter2"));
    }
}

#[test]
fn all_that_is_not_toml_is_told() {
    let text = "schema = 1\nname = \n[identity\nstart = = 3\nend = 'restart'\nxyz = 1\n";
    let mistakes = parse(text).unwrap_err();
    let lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.line).collect();
    assert!(
        [2, 3, 4].iter().all(|line| lines.contains(line)),
        "{mistakes:?}"
    );
}

#[test]
fn a_file_is_bounded() {
    let long = format!("schema = 1\n# {}", "x".repeat(300_000));
    assert_eq!(parse(&long).unwrap_err().len(), 1);
    let many: String = (0..5000).map(|n| format!("k{n} = 1\n")).collect();
    assert!(parse(&many).unwrap_err().len() <= 200);
}

#[test]
fn the_summary_has_every_choice() {
    for (text, file) in [
        (GOOD[0], "templates/minimal.summary.txt"),
        (GOOD[1], "templates/everything.summary.txt"),
    ] {
        let page: Vec<String> = summary(&parse(text).unwrap())
            .iter()
            .map(|line| {
                let default = if line.default { " (default)" } else { "" };
                format!("{}: {}{default}", line.what, line.value)
            })
            .collect();
        snapshot::hold(file, &page.join("\n"));
    }
}

/// Checks a text against the part of JSON Schema that our schema uses. Panics at an unknown
/// keyword, so that none is skipped silently.
fn accepts(schema: &serde_json::Value, text: &str) -> Result<(), String> {
    let Ok(value) = toml::from_str::<toml::Value>(text) else {
        return Err("not TOML".into());
    };
    validate(schema, schema, &serde_json::to_value(value).unwrap())
}

fn validate(
    root: &serde_json::Value,
    schema: &serde_json::Value,
    value: &serde_json::Value,
) -> Result<(), String> {
    use serde_json::Value;
    let Value::Object(rules) = schema else {
        return Ok(());
    };
    for (word, rule) in rules {
        let fine = match word.as_str() {
            "$schema" | "title" | "description" | "default" | "$defs" | "format" => true,
            "$ref" => {
                let pointer = rule.as_str().unwrap().trim_start_matches('#');
                validate(root, root.pointer(pointer).unwrap(), value)?;
                true
            }
            "type" => {
                let of = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("type {other}"),
                };
                rule.as_array()
                    .map_or_else(|| of(rule), |names| names.iter().any(of))
            }
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_i64().is_none_or(|n| n >= rule.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|n| n <= rule.as_i64().unwrap()),
            "oneOf" | "anyOf" => {
                let choices = rule.as_array().unwrap();
                choices.iter().any(|one| validate(root, one, value).is_ok())
            }
            "maxItems" => value
                .as_array()
                .is_none_or(|all| all.len() as u64 <= rule.as_u64().unwrap()),
            "uniqueItems" => value.as_array().is_none_or(|all| {
                let mut seen = Vec::new();
                all.iter().all(|item| {
                    let fresh = !seen.contains(&item);
                    seen.push(item);
                    fresh
                })
            }),
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    validate(root, rule, item)?;
                }
                true
            }
            "required" => value.as_object().is_none_or(|map| {
                let keys = rule.as_array().unwrap();
                keys.iter()
                    .all(|key| map.contains_key(key.as_str().unwrap()))
            }),
            "properties" => {
                for (key, property) in rule.as_object().unwrap() {
                    if let Some(inner) = value.get(key) {
                        validate(root, property, inner)?;
                    }
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(rule, &Value::Bool(false));
                let known = schema["properties"].as_object().unwrap();
                value
                    .as_object()
                    .is_none_or(|map| map.keys().all(|key| known.contains_key(key)))
            }
            other => panic!("the schema says {other}"),
        };
        if !fine {
            return Err(format!("{word}: {value}"));
        }
    }
    Ok(())
}

/// Lines that make up templates, valid and invalid.
const LINES: &[&str] = &[
    "schema = 1",
    "schema = 'x'",
    "[identity]",
    "hostname = 'LAB-{nn}'",
    "hostname = '{'",
    "[network]",
    "mode = 'static'",
    "range = '10.0.0.1-10.0.0.9'",
    "range = 'é-'",
    "prefix = 24",
    "prefix = 0x18",
    "gateway = '10.0.0.5'",
    "[[user]]",
    "name = 'a'",
    "password = 'p'",
    "[[copy]]",
    "to = 'C:\\é'",
    "user = 1",
    "user = [1, {}]",
    "[windows]",
    "sid = \"kep\"",
    "[user.x]",
    "é = \"\\",
    "copy = [[[[",
    "end = 1979-05-27",
    "start = 9999999999999999999",
    "a.b.c = 1",
    "= ",
    "\"\" = 1",
    "[membership]",
    "domain = 'a.b'",
];

proptest! {
    #[test]
    fn any_text_is_a_template_or_mistakes_inside_it(text in "\\PC{0,200}|[ -~\n]{0,200}") {
        hold(&text)?;
    }

    #[test]
    fn any_lines_are_a_template_or_mistakes_inside_them(
        lines in proptest::collection::vec(proptest::sample::select(LINES), 0..24),
        end in "\n|\r\n",
    ) {
        hold(&lines.join(&end))?;
    }

    #[test]
    fn any_key_can_be_tried(
        path in "(network|user|1|2|name|mode|schema|é|\\.|\\.){0,6}",
        value in "\\PC{0,20}|(\n|[\\[\\]{}=\"', a1]){0,12}",
    ) {
        let set = [(path, value)];
        if let Err(mistakes) = parse_with(GOOD[1], &set, &Checks::default()) {
            prop_assert!(!mistakes.is_empty());
        }
    }
}

fn hold(text: &str) -> Result<(), TestCaseError> {
    match parse(text) {
        Ok(template) => prop_assert_eq!(parse(&to_toml(&template)).unwrap(), template),
        Err(mistakes) => {
            prop_assert!(!mistakes.is_empty());
            for mistake in mistakes {
                prop_assert!(text.get(mistake.span.clone()).is_some(), "{:?}", mistake);
                prop_assert!((1..=text.matches('\n').count() + 1).contains(&mistake.line));
                prop_assert!((1..=text.chars().count() + 1).contains(&mistake.column));
            }
        }
    }
    Ok(())
}

#[test]
fn further_consoles_are_addresses_with_a_port_and_go_with_a_report() {
    for (text, want) in [
        ("console = ['10.1.0.5']", "write it as 10.1.0.5:5003"),
        ("console = ['10.1.0.5:0']", "write it as 10.1.0.5:5003"),
        ("console = ['console:5003']", "write it as 10.1.0.5:5003"),
        (
            "report = false\nconsole = ['10.1.0.5:5003']",
            "goes with first_start.report = true",
        ),
        ("reports = true", "did you mean `report`"),
    ] {
        let mistakes = parse(&format!("schema = 1\n[first_start]\n{text}")).unwrap_err();
        let said = format!("{}", mistakes[0]);
        assert!(mistakes.len() == 1 && said.contains(want), "{said}");
    }
}
