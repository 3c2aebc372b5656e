//! What an instance cannot work without.

use super::{check_problems, good};
use crate::config::DependencyKind;

const END: &str = "[engine]\n";

fn problems(section: &str, expected: &[&str]) {
    check_problems(&[(END, &format!("[instances.clinic.dependencies.{section}{END}"))], expected);
}

#[test]
fn the_map_arrives() {
    assert!(good().instances.into_values().all(|instance| instance.dependencies.is_empty()));
    let map = "[instances.clinic.dependencies]\n\
               cache = { kind = \"redis\", address = \"cache:6379\" }\n\
               sign-in = { kind = \"identity\", address = \"https://id.example.org\", note = \"IT service desk\" }\n";
    let text = super::changed(&[(END, &format!("{map}{END}"))]);
    let (config, _) = super::parse(&text, std::path::Path::new(super::FILE)).unwrap();
    let (_, clinic) = config.instance("clinic").unwrap();
    let found: Vec<_> =
        clinic.dependencies.iter().map(|(name, of)| (name.as_str(), of.kind, of.address.as_str())).collect();
    let expected = [
        ("cache", DependencyKind::Redis, "cache:6379"),
        ("sign-in", DependencyKind::Identity, "https://id.example.org"),
    ];
    assert_eq!(found, expected);
    assert_eq!(clinic.dependencies.values().last().unwrap().note.as_deref(), Some("IT service desk"));
}

#[test]
fn what_is_wrong_with_it_is_told() {
    let key = "instances.clinic.dependencies";
    let cases = [
        (
            "db]\nkind = \"postgres\"\naddress = \"x\"\n",
            38,
            "db.kind: not a kind of dependency; did you mean \"postgresql\"?",
        ),
        ("db]\nkind = \"dns\"\n", 37, "db.address: missing; say where it is: a host and port, or a URL"),
        (
            "db]\nkind = \"dns\"\naddress = \"https://me:secret@x\"\n",
            39,
            "db.address: holds a user name or password; write the address without it",
        ),
        (
            "Db]\nkind = \"dns\"\naddress = \"x\"\n",
            37,
            "Db: not a valid name; use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit",
        ),
    ];
    for (section, line, words) in cases {
        problems(section, &[&format!("F:{line}: {key}.{words}")]);
    }
}
