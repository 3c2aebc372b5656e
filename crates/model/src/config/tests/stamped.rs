//! Who stamps the ledger's checkpoints.

use std::{path::Path, time::Duration};

use super::{check_problems, good};

const END: &str = "[engine]\n";

fn problems(section: &str, expected: &[&str]) {
    check_problems(&[(END, &format!("{section}{END}"))], expected);
}

#[test]
fn nobody_by_default() {
    assert_eq!(good().evidence.timestamps, None);
}

#[test]
fn an_authority_and_who_vouches_for_it() {
    let section = "[evidence]\nretain = \"10d\"\n[evidence.timestamps]\nurl = \"http://tsa.example.org/stamp\"\nca_file = \"tsa.pem\"\n";
    let text = super::changed(&[(END, &format!("{section}{END}"))]);
    let (config, _) = super::parse(&text, Path::new(super::FILE)).unwrap();
    let stamps = config.evidence.timestamps.unwrap();
    assert_eq!(stamps.url.as_str(), "http://tsa.example.org/stamp");
    // Like every path, from the file's folder on.
    assert_eq!(stamps.ca_file.as_deref(), Some(Path::new("/etc/lifeboat/tsa.pem")));
    assert_eq!(config.evidence.retain.0, Duration::from_secs(10 * 86_400));

    let alone = "[evidence.timestamps]\nurl = \"http://127.0.0.1:3180\"\n";
    let text = super::changed(&[(END, &format!("{alone}{END}"))]);
    let (config, _) = super::parse(&text, Path::new(super::FILE)).unwrap();
    assert_eq!(config.evidence.timestamps.unwrap().ca_file, None);
}

#[test]
fn what_is_no_authority_is_refused() {
    problems(
        "[evidence.timestamps]\nca_file = \"tsa.pem\"\n",
        &["F:37: evidence.timestamps.url: missing; name the authority: url = \"http://…\""],
    );
    for url in ["https://tsa.example.org", "tsa.example.org", "file:///etc/passwd", "http://"] {
        problems(
            &format!("[evidence.timestamps]\nurl = \"{url}\"\n"),
            &[
                "F:38: evidence.timestamps.url: not an http URL; write it like \"http://timestamp.example.org\": a token is signed, and what is sent for it is a digest",
            ],
        );
    }
    problems(
        "[evidence.timestamps]\nurl = \"http://user:secret@tsa.example.org\"\n",
        &["F:38: evidence.timestamps.url: holds a user name or password; use an authority that asks for none"],
    );
    problems(
        "[evidence.timestamps]\nurl = \"http://tsa.example.org\"\ncafile = \"x\"\n",
        &["F:39: evidence.timestamps.cafile: unknown key; did you mean \"ca_file\"?"],
    );
}
