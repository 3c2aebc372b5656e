//! Repositories in Google's and Microsoft's stores, from the configuration to the client: which secrets are read, and
//! whom it asks. What the stores do is tested in lifeboat-store.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::path::Path;

use lifeboat_engine::context::open_store;
use lifeboat_model::config::{RepositoryConfig, parse};
use lifeboat_testkit::port;

const REST: &str = r#"
[keys]
recovery_recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]
host_identity_file = "host"
signing_key_file = "signing"
trusted_keys = ["lifeboat-ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="]
"#;

fn repository(section: &str) -> RepositoryConfig {
    let text = format!("tenant = \"clinics\"\n{section}{REST}");
    let (config, _) = parse(&text, Path::new("lifeboat.toml")).unwrap_or_else(|problems| panic!("{problems:#?}"));
    config.repository
}

/// The error of opening it, with its causes.
async fn refused(section: &str, variable: Option<&str>) -> String {
    let variable = variable.map(str::to_owned);
    let environment = move |name: &str| variable.clone().filter(|_| name == "SECRET");
    let error = open_store(&repository(section), &environment, true).await.unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn secrets_are_read_from_where_the_configuration_says_and_never_told() {
    let nobody = port::closed();
    let gcs = format!(
        "[repository.gcs]\nendpoint = \"http://{nobody}\"\nbucket = \"backup\"\nservice_account_env = \"SECRET\"\n"
    );
    let azure = |kind: &str| {
        format!(
            "[repository.azure]\nendpoint = \"http://{nobody}/clinic\"\naccount = \"clinic\"\ncontainer = \"backup\"\n\
             prefix = \"a/b\"\n{kind}_env = \"SECRET\"\n"
        )
    };
    let account = r#"{"type": "service_account", "disable_oauth": true, "client_email": "", "private_key_id": "", "private_key": "hunter2"}"#;
    let cases = [
        (gcs.clone(), Some(account), format!("open of gs://backup/ at http://{nobody} did not succeed")),
        (gcs.clone(), Some("hunter2"), "cannot use gs://backup".to_owned()),
        (gcs, None, "environment variable SECRET is not set".to_owned()),
        (
            azure("access_key"),
            Some("aHVudGVyMg=="),
            format!("open of azure://clinic/backup/a/b at http://{nobody}/clinic did not succeed"),
        ),
        (azure("access_key"), Some("hunter2 is no base64"), "cannot use azure://clinic/backup".to_owned()),
        (azure("sas"), Some("sv=1&sig=hunter2"), "did not succeed".to_owned()),
        (azure("sas"), None, "environment variable SECRET is not set".to_owned()),
    ];
    let tried = cases.map(|(section, variable, says)| async move {
        let text = refused(&section, variable).await;
        assert!(text.contains(&says), "{says}: {text}");
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
    });
    futures::future::join_all(tried).await;
}
