//! Where the real servers are. `testbed/testbed env` prints the variables; without them its defaults hold.

use std::{env, fs, path::PathBuf};

use lifeboat_model::secret::Secret;

/// Whether tests against the real servers are to run. Once this says yes, they run or fail.
pub fn enabled() -> bool {
    env::var("LIFEBOAT_TESTBED").is_ok_and(|value| value == "1")
}

/// The testbed's folder: secrets, certificates, data.
pub fn state_dir() -> PathBuf {
    setting("LIFEBOAT_TESTBED_STATE", "/var/lib/lifeboat-testbed").into()
}

/// A variable of the testbed, or its default.
pub fn setting(name: &str, default: &str) -> String {
    env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

/// A secret of the testbed by its file name under `secrets/`, for example `s3-access-key`.
pub fn secret(name: &str) -> Secret {
    let path = state_dir().join("secrets").join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Secret::new(text.trim()),
        Err(e) => panic!("cannot read {}: {e}; start the testbed first (testbed/testbed up)", path.display()),
    }
}
