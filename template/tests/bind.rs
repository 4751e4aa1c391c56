//! Names and addresses that machines get.

use facts::Mac;
use facts::identity::{Shared, Value};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use template::bind::{BindRequest, Binding, bind};
use template::import::{Listed, parse_list};
use template::machine::Machine;
use template::names::NameRules;
use template::schema::{Template, parse};

fn lab() -> Template {
    parse(
        "schema = 1\n[identity]\nhostname = 'LAB-{nn}'\n[network]\nmode = 'static'\nprefix = 24\ngateway = '10.0.0.1'\n\
         dns = ['10.0.0.12']\nrange = '10.0.0.10-10.0.0.14'\n",
    )
    .unwrap()
}

fn named(pattern: &str) -> Template {
    parse(&format!("schema = 1\n[identity]\nhostname = '{pattern}'\n")).unwrap()
}

fn machine(number: u8) -> Machine {
    Machine {
        id: format!("pc{number}"),
        uuid: Some(format!("a1b2c3d4-0000-1111-2222-3333444455{number:02x}")),
        macs: vec![Mac([0x52, 0x54, 0, 0, 0, number])],
        boot_mac: Some(Mac([0x52, 0x54, 0, 0, 0, number])),
        seed: [number; 12],
        ..Machine::default()
    }
}

struct Case<'a> {
    template: &'a Template,
    existing: &'a [Binding],
    list: &'a [Listed],
    taken: &'a [(Ipv4Addr, String)],
    taken_names: &'a [String],
    targets: BTreeSet<String>,
    shared: Shared,
}

impl<'a> Case<'a> {
    fn of(template: &'a Template) -> Self {
        Self {
            template,
            existing: &[],
            list: &[],
            taken: &[],
            taken_names: &[],
            targets: BTreeSet::new(),
            shared: Shared::default(),
        }
    }

    fn bind(&self, machines: &[Machine]) -> Result<Vec<Binding>, Vec<String>> {
        bind(&BindRequest {
            template: self.template,
            template_name: "lab",
            machines,
            existing: self.existing,
            list: self.list,
            taken: self.taken,
            taken_names: self.taken_names,
            rules: NameRules::Windows,
            targets: &self.targets,
            shared: &self.shared,
        })
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }
}

/// Each binding as text: `LAB-01 10.0.0.10`.
fn short(bindings: &[Binding]) -> Vec<String> {
    bindings
        .iter()
        .map(|binding| {
            let address = binding.address.map(|a| a.to_string());
            format!(
                "{} {}",
                binding.name.as_deref().unwrap_or("-"),
                address.as_deref().unwrap_or("-")
            )
        })
        .collect()
}

#[test]
fn the_lowest_free_is_handed_out() {
    let template = lab();
    let taken = [(Ipv4Addr::new(10, 0, 0, 11), "console".to_owned())];
    let names = ["lab-02".to_owned()];
    let case = Case {
        taken: &taken,
        taken_names: &names,
        ..Case::of(&template)
    };
    let got = case.bind(&[machine(1), machine(2), machine(3)]).unwrap();
    // Address .11 is the console's, .12 the name server's; lab-02 belongs to another machine.
    assert_eq!(
        short(&got),
        ["LAB-01 10.0.0.10", "LAB-03 10.0.0.13", "LAB-04 10.0.0.14"]
    );
    assert_eq!((got[0].number, got[0].seed), (Some(1), [1; 12]));
}

#[test]
fn a_known_machine_gets_the_same_again_whoever_came_before() {
    let template = lab();
    let first = Case::of(&template).bind(&[machine(1), machine(2)]).unwrap();
    let again = Case {
        existing: &first,
        ..Case::of(&template)
    };
    let got = again.bind(&[machine(9), machine(2), machine(1)]).unwrap();
    assert_eq!(
        short(&got),
        ["LAB-03 10.0.0.13", "LAB-02 10.0.0.11", "LAB-01 10.0.0.10"]
    );
    // The number of a machine stays reserved while the machine is away.
    assert_eq!(
        short(&again.bind(&[machine(7)]).unwrap()),
        ["LAB-03 10.0.0.13"]
    );
    // Identities stay with the machine: a new seed is ignored.
    let mut other_seed = machine(1);
    other_seed.seed = [99; 12];
    assert_eq!(again.bind(&[other_seed]).unwrap()[0].seed, [1; 12]);
}

#[test]
fn a_machine_is_known_by_its_other_card_or_its_uuid() {
    let template = lab();
    let mut two_cards = machine(1);
    two_cards.macs.push(Mac([2, 0, 0, 0, 0, 1]));
    let first = Case::of(&template).bind(&[two_cards]).unwrap();
    let case = Case {
        existing: &first,
        ..Case::of(&template)
    };
    let mut other_card = machine(1);
    (other_card.uuid, other_card.macs, other_card.boot_mac) =
        (None, vec![], Some(Mac([2, 0, 0, 0, 0, 1])));
    assert_eq!(
        case.bind(&[machine(5), other_card]).unwrap()[1]
            .name
            .as_deref(),
        Some("LAB-01")
    );
    let mut no_card = machine(1);
    (no_card.macs, no_card.boot_mac) = (vec![], None);
    let got = case.bind(&[no_card]).unwrap();
    assert_eq!(got[0].name.as_deref(), Some("LAB-01"));
    assert_eq!(got[0].macs.len(), 2);
    // The same UUID with a new card: either a new card in this machine, or another board with the
    // same UUID.
    let mut new_card = machine(1);
    (new_card.macs, new_card.boot_mac) = (vec![], Some(Mac([2, 0, 0, 0, 0, 9])));
    let faults = case.bind(&[new_card.clone()]).unwrap_err();
    assert!(faults[0].contains("it may be LAB-01"), "{faults:?}");
    // The console has identified the machine.
    let known = [Binding {
        target: Some("t-1".into()),
        ..first[0].clone()
    }];
    let case = Case {
        existing: &known,
        targets: BTreeSet::from(["t-1".to_owned(), "t-2".to_owned()]),
        ..Case::of(&template)
    };
    new_card.target = Some("t-1".into());
    let got = case.bind(&[new_card.clone()]).unwrap();
    assert_eq!(
        (got[0].name.as_deref(), got[0].macs.len()),
        (Some("LAB-01"), 3)
    );
    new_card.target = Some("t-2".into());
    assert_eq!(
        short(&case.bind(&[new_card]).unwrap()),
        ["LAB-02 10.0.0.11"]
    );
}

/// Three laptops were deployed one after the other through the same dock of an office: all three
/// became LAB-01.
#[test]
fn a_dock_decides_nothing() {
    let template = lab();
    let on_the_dock = |number: u8| {
        let mut laptop = machine(number);
        (laptop.macs, laptop.boot_mac) = (vec![Mac([2, 0, 0, 0, 0, 7])], None);
        laptop
    };
    let mut store: Vec<Binding> = Vec::new();
    for (number, name) in [
        (1, "LAB-01"),
        (2, "LAB-02"),
        (3, "LAB-03"),
        (2, "LAB-02"),
        (1, "LAB-01"),
    ] {
        let case = Case {
            existing: &store,
            ..Case::of(&template)
        };
        let got = case.bind(&[on_the_dock(number)]).unwrap().remove(0);
        assert_eq!(got.name.as_deref(), Some(name));
        store.retain(|old| old.name != got.name);
        store.push(got);
    }
    // A laptop without a UUID could be any of them. It is none of them once the card is known to
    // move.
    let mut unknown = on_the_dock(9);
    unknown.uuid = None;
    let case = Case {
        existing: &store,
        ..Case::of(&template)
    };
    let faults = case.bind(&[unknown.clone()]).unwrap_err();
    assert!(
        faults[0].contains("it may be LAB-03 or LAB-02 or LAB-01"),
        "{faults:?}"
    );
    unknown.target = Some("t-9".into());
    let case = Case {
        existing: &store,
        shared: [Value::Card(Mac([2, 0, 0, 0, 0, 7]))].into_iter().collect(),
        ..Case::of(&template)
    };
    assert_eq!(
        case.bind(&[unknown]).unwrap()[0].name.as_deref(),
        Some("LAB-04")
    );
}

#[test]
fn a_uuid_of_many_is_nobodys() {
    let template = lab();
    // Two machines have the same UUID: neither is taken for the other.
    let mut twin = machine(2);
    twin.uuid = machine(1).uuid;
    let both = Case::of(&template)
        .bind(&[machine(1), twin.clone()])
        .unwrap();
    assert_eq!(both[0].uuid, None);
    // A UUID that several machines share identifies none of them, and neither does an invalid one.
    for (junk, shared) in [
        ("03000200-0400-0500-0006-000700080009", true),
        ("00000000-0000-0000-0000-000000000000", false),
        ("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", false),
        ("not a uuid", false),
    ] {
        let shared: Shared = junk
            .parse()
            .ok()
            .filter(|_| shared)
            .map(Value::Uuid)
            .into_iter()
            .collect();
        let mut one = machine(1);
        one.uuid = Some(junk.into());
        let case = Case {
            shared: shared.clone(),
            ..Case::of(&template)
        };
        let first = case.bind(&[one]).unwrap();
        assert_eq!(first[0].uuid, None);
        let mut other = machine(2);
        other.uuid = Some(junk.into());
        let case = Case {
            existing: &first,
            shared,
            ..Case::of(&template)
        };
        assert_eq!(
            case.bind(&[other]).unwrap()[0].name.as_deref(),
            Some("LAB-02")
        );
    }
}

#[test]
fn an_exhausted_range_says_how_many_are_missing() {
    let template = lab();
    let machines: Vec<Machine> = (1..=7).map(machine).collect();
    let faults = Case::of(&template).bind(&machines).unwrap_err();
    assert_eq!(
        faults,
        [
            "the range 10.0.0.10-10.0.0.14 is exhausted: 3 more addresses are needed (5 in it, 5 taken); make it larger, or \
          release bindings of machines that are gone"
        ]
    );
}

#[test]
fn a_list_wins_and_its_absent_machines_keep_theirs() {
    let template = lab();
    let list = parse_list(
        "52:54:00:00:00:02,LAB-01,10.0.0.10\n52:54:00:00:00:77,lab-03,10.0.0.13\n\
         a1b2c3d4-0000-1111-2222-333344445503,Teacher,10.0.0.99\n",
    )
    .unwrap();
    let case = Case {
        list: &list,
        ..Case::of(&template)
    };
    let got = case
        .bind(&[machine(1), machine(2), machine(3), machine(4)])
        .unwrap();
    assert_eq!(
        short(&got),
        [
            "LAB-02 10.0.0.11",
            "LAB-01 10.0.0.10",
            "Teacher 10.0.0.99",
            "LAB-04 10.0.0.14"
        ]
    );
    // A name of the list that another machine has is a fault, and is not given twice.
    let first = Case::of(&template).bind(&[machine(8)]).unwrap();
    let case = Case {
        list: &list,
        existing: &first,
        ..Case::of(&template)
    };
    let faults = case.bind(&[machine(2)]).unwrap_err();
    assert_eq!(
        faults,
        [
            "pc2: line 1 of the list names it LAB-01, which another machine has",
            "pc2: line 1 of the list gives it 10.0.0.10, which is taken: LAB-01",
            "pc2: its name would be LAB-02, which another machine has; put {nn} into identity.hostname, or use a list",
        ][..2]
    );
}

#[test]
fn a_list_alone_has_to_name_everybody() {
    let template =
        parse("schema = 1\n[identity]\nlist = 'x.csv'\n[network]\nmode = 'static'\nprefix = 24\n")
            .unwrap();
    let list = parse_list("52:54:00:00:00:01,a,10.0.0.5\n").unwrap();
    let case = Case {
        list: &list,
        ..Case::of(&template)
    };
    assert_eq!(short(&case.bind(&[machine(1)]).unwrap()), ["a 10.0.0.5"]);
    let faults = case.bind(&[machine(1), machine(2)]).unwrap_err();
    assert_eq!(
        faults,
        [
            "pc2: the list has no address for it, and the template has no range; add it to the list",
            "pc2: the list has no name for it, and the template has no hostname; add it to the list",
        ]
    );
}

#[test]
fn names_are_checked_with_the_largest_number_of_the_batch() {
    let template = named("CLASSROOM-12-{n}");
    let machines: Vec<Machine> = (1..=9).map(machine).collect();
    assert!(Case::of(&template).bind(&machines).is_ok());
    // The name would be too long for machine 100, so none gets a name.
    let machines: Vec<Machine> = (1..=100).map(machine).collect();
    let template = named("CLASSROOM-123{n}");
    let faults = Case::of(&template).bind(&machines).unwrap_err();
    assert!(
        faults
            .iter()
            .any(|fault| fault.contains("with the largest number 100")),
        "{faults:?}"
    );
}

#[test]
fn what_a_machine_lacks_is_said() {
    for (pattern, change, want) in [
        (
            "x-{serial}",
            0,
            "pc1: the machine has no serial number for {serial}",
        ),
        (
            "x-{asset}",
            0,
            "pc1: the machine has no asset tag for {asset}",
        ),
        ("x-{uuid8}", 1, "pc1: the machine has no UUID for {uuid8}"),
        ("12{nn}", 0, "digits only"),
        ("x-{n}", 2, "no network card and no UUID"),
        ("NETWORK", 0, "reserved"),
    ] {
        let mut one = machine(1);
        if change > 0 {
            one.uuid = None;
        }
        if change > 1 {
            (one.macs, one.boot_mac) = (vec![], None);
        }
        let faults = Case::of(&named(pattern)).bind(&[one]).unwrap_err();
        assert!(
            faults.iter().any(|fault| fault.contains(want)),
            "{pattern}: {faults:?}"
        );
    }
    let faults = Case::of(&named("SAME"))
        .bind(&[machine(1), machine(2)])
        .unwrap_err();
    assert_eq!(
        faults,
        [
            "pc2: its name would be SAME, which another machine has; put {nn} into identity.hostname, or use a list"
        ]
    );
    let faults = Case::of(&named("x{n}"))
        .bind(&[machine(1), machine(1)])
        .unwrap_err();
    assert!(
        faults[0].contains("no network card and no UUID or serial number of its own"),
        "{faults:?}"
    );
}

#[test]
fn a_changed_template_keeps_numbers_and_moves_addresses() {
    let first = Case::of(&lab()).bind(&[machine(1), machine(2)]).unwrap();
    let template = parse(
        "schema = 1\n[identity]\nhostname = 'Room-{nnn}'\ncase = 'lower'\n[network]\nmode = 'static'\nprefix = 24\n\
         range = '10.0.1.10-10.0.1.99'\n",
    )
    .unwrap();
    let case = Case {
        existing: &first,
        ..Case::of(&template)
    };
    let got = case.bind(&[machine(2), machine(1)]).unwrap();
    assert_eq!(short(&got), ["room-002 10.0.1.10", "room-001 10.0.1.11"]);
}

#[test]
fn what_a_template_does_not_hand_out_stays_with_the_machine() {
    let first = Case::of(&lab()).bind(&[machine(1), machine(2)]).unwrap();
    let dhcp = named("other-{n}");
    let case = Case {
        existing: &first,
        ..Case::of(&dhcp)
    };
    let second = case.bind(&[machine(2)]).unwrap();
    assert_eq!(short(&second), ["other-2 10.0.0.11"]);
    let addresses = parse(
        "schema = 1\n[network]\nmode = 'static'\nprefix = 24\nrange = '10.0.0.10-10.0.0.14'\n",
    )
    .unwrap();
    let case = Case {
        existing: &first,
        ..Case::of(&addresses)
    };
    assert_eq!(case.bind(&[machine(2)]).unwrap(), first[1..]);
}

#[test]
fn what_was_imported_wins_over_pattern_and_range() {
    let template = lab();
    let imported = [Binding {
        macs: vec![Mac([0x52, 0x54, 0, 0, 0, 2])],
        name: Some("Teacher".into()),
        address: Some(Ipv4Addr::new(10, 0, 0, 200)),
        imported: true,
        seed: [9; 12],
        ..Binding::default()
    }];
    let case = Case {
        existing: &imported,
        ..Case::of(&template)
    };
    let got = case.bind(&[machine(1), machine(2)]).unwrap();
    assert_eq!(short(&got), ["LAB-01 10.0.0.10", "Teacher 10.0.0.200"]);
    assert!(got[1].imported && got[1].seed == [9; 12]);
    let taken = [(Ipv4Addr::new(10, 0, 0, 200), "this console".to_owned())];
    let names = ["teacher".to_owned()];
    let case = Case {
        taken: &taken,
        taken_names: &names,
        ..case
    };
    let faults = case.bind(&[machine(2)]).unwrap_err();
    assert!(faults.contains(
        &"pc2: 10.0.0.200 was imported for it, and is taken: this console; import another".into()
    ));
    assert!(faults.contains(
        &"pc2: Teacher was imported for it, and another machine has it; import another".into()
    ));
}

proptest! {
    #[test]
    fn nothing_is_handed_out_twice_and_a_second_run_changes_nothing(
        batches in proptest::collection::vec(proptest::collection::vec(1u8..40, 1..10), 1..6),
    ) {
        let template = parse(
            "schema = 1\n[identity]\nhostname = 'a{n}'\n[network]\nmode = 'static'\nprefix = 16\nrange = '10.0.0.10-10.0.0.99'\n",
        ).unwrap();
        let mut store: Vec<Binding> = Vec::new();
        for batch in batches {
            let who: BTreeSet<u8> = batch.iter().copied().collect();
            // The machines of the batch in its order, each once.
            let mut machines: Vec<Machine> = Vec::new();
            for number in batch {
                if machines.iter().all(|m| m.id != format!("pc{number}")) {
                    machines.push(machine(number));
                }
            }
            prop_assert_eq!(machines.len(), who.len());
            let got = Case { existing: &store, ..Case::of(&template) }.bind(&machines).unwrap();
            for binding in &got {
                // A known machine keeps its values.
                if let Some(old) = store.iter().find(|old| old.macs == binding.macs) {
                    prop_assert_eq!(old, binding);
                }
            }
            store.retain(|old| got.iter().all(|new| new.macs != old.macs));
            store.extend(got);
            let names: BTreeSet<_> = store.iter().map(|b| b.name.clone()).collect();
            let addresses: BTreeSet<_> = store.iter().map(|b| b.address).collect();
            let numbers: BTreeSet<_> = store.iter().map(|b| b.number).collect();
            prop_assert_eq!((names.len(), addresses.len(), numbers.len()), (store.len(), store.len(), store.len()));
        }
    }
}
