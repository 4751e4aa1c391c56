//! The published schema of META agrees with the type that reads it.
#![allow(clippy::unwrap_used, reason = "a test")]

use imagefmt::*;
use serde_json::Value;

fn schema() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/image-meta.schema.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A description with every field set, so that every field appears in JSON.
fn full() -> Meta {
    let text = || "x".to_owned();
    Meta {
        schema: META_SCHEMA,
        tool: text(),
        created: text(),
        note: Some(text()),
        source: SourceDisk {
            path: text(),
            model: text(),
            serial: text(),
            size: 4096,
            logical_sector: 512,
            physical_sector: 512,
        },
        table_kind: "gpt".into(),
        firmware: Some("uefi".into()),
        partitions: vec![PartitionMeta {
            number: 1,
            start: 512,
            length: 512,
            type_id: text(),
            unique_id: Some(text()),
            name: Some(text()),
            attributes: 1,
            bootable: true,
            logical: false,
            fs: Some(FsMeta {
                kind: text(),
                label: Some(text()),
                uuid: Some(text()),
                block_size: 4096,
            }),
            used_bytes: 1,
            capture: "raw".into(),
            reason: Some(text()),
            excluded: vec![ExcludedRange {
                what: text(),
                start: 512,
                length: 512,
            }],
        }],
        droppable: vec![Droppable {
            start: 1024,
            length: 512,
        }],
        warnings: vec![text()],
        left_out: vec![LeftOut {
            place: text(),
            start: 1024,
            length: 512,
            first: 1024,
            bytes: 1,
            unread: 0,
        }],
        holes: vec![Hole {
            start: 0,
            length: 512,
        }],
        lineage: vec![Origin {
            by: "rebuild".into(),
            root: Some("0".repeat(64)),
            tool: text(),
            time: Some(text()),
        }],
        set: Some(DiskSet {
            id: text(),
            disk: 1,
        }),
    }
}

/// The places where a value breaks the schema; with `closed`, also fields that the schema does not
/// list.
fn faults(
    value: &Value,
    rule: &Value,
    root: &Value,
    closed: bool,
    at: &str,
    out: &mut Vec<String>,
) {
    if let Some(name) = rule["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").unwrap();
        return faults(value, &root["$defs"][name], root, closed, at, out);
    }
    let fits = match rule["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.as_u64() >= rule["minimum"].as_u64() && value.is_u64(),
        None => rule["enum"].as_array().unwrap().contains(value),
        Some(other) => panic!("{other} is not looked at"),
    };
    if !fits {
        out.push(format!("{at}: {value}"));
    }
    for name in rule["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            out.push(format!("{at}: no {name}"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        match rule["properties"].get(name) {
            Some(rule) => faults(inner, rule, root, closed, &format!("{at}.{name}"), out),
            None if closed => out.push(format!("{at}: {name} is not in the schema")),
            None => {}
        }
    }
    for item in value.as_array().into_iter().flatten() {
        faults(item, &rule["items"], root, closed, &format!("{at}[]"), out);
    }
}

/// The names of all properties, by the definition they belong to.
fn listed(rule: &Value, value: &Value, root: &Value, at: &str, out: &mut Vec<String>) {
    if let Some(name) = rule["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").unwrap();
        return listed(&root["$defs"][name], value, root, at, out);
    }
    for (name, inner) in rule["properties"].as_object().into_iter().flatten() {
        match value.get(name) {
            Some(value) => listed(inner, value, root, &format!("{at}.{name}"), out),
            None => out.push(format!("{at}: the type has no {name}")),
        }
    }
    if let Some(item) = value.as_array().and_then(|items| items.first()) {
        listed(&rule["items"], item, root, &format!("{at}[]"), out);
    }
}

#[test]
fn schema_and_type_have_the_same_fields() {
    let (schema, geometry) = (schema(), Geometry::new(1 << 20, 512, 18).unwrap());
    let value: Value = serde_json::from_slice(&full().to_json(&geometry).unwrap()).unwrap();
    let mut wrong = Vec::new();
    faults(&value, &schema, &schema, true, "META", &mut wrong);
    listed(&schema, &value, &schema, "META", &mut wrong);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(serde_json::from_value::<Meta>(value).unwrap(), full());
}

#[test]
fn an_empty_description_fits_the_schema() {
    let (schema, geometry) = (schema(), Geometry::new(1 << 20, 512, 18).unwrap());
    let value: Value =
        serde_json::from_slice(&Meta::default().to_json(&geometry).unwrap()).unwrap();
    let mut wrong = Vec::new();
    faults(&value, &schema, &schema, false, "META", &mut wrong);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A later version adds fields, and an older reader reads those it knows.
#[test]
fn what_a_later_version_adds_is_passed_over() {
    let geometry = Geometry::new(1 << 20, 512, 18).unwrap();
    let later = br#"{"schema":2,"tool":"t","colour":"blue","partitions":[{"number":3,"mood":1}]}"#;
    let meta = Meta::from_json(later, &geometry).unwrap();
    assert_eq!((meta.schema, meta.partitions[0].number), (2, 3));
}
