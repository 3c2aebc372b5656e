//! Where backups go: directories, buckets, copies; and the locks that are asked of them.

use super::*;

const GOLD: &str = "[tiers.gold]\nrpo = \"15m\"\nrto = \"4h\"\n";
const LOCAL: &str = "[repository]\npath = \"backups\"\n";
#[test]
fn s3() {
    let section = r#"[repository.s3]
endpoint = "https://s3.example.org:7480"
bucket = "lifeboat"
prefix = "/a/b"
access_key_env = "S3_ACCESS_KEY"
secret_key_file = "s3-secret"
"#;
    let text = changed(&[("[repository]\npath = \"backups\"\n", section)]);
    let (config, warnings) = parse(&text, Path::new(FILE)).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let RepositoryConfig::S3(s3) = config.repository else { panic!("not S3") };
    assert_eq!(s3.endpoint.unwrap().as_str(), "https://s3.example.org:7480/");
    assert_eq!((s3.bucket.as_str(), s3.prefix.as_str(), s3.region.as_str()), ("lifeboat", "a/b/", "us-east-1"));
    assert_eq!(s3.access_key, SecretSource::Env("S3_ACCESS_KEY".into()));
    assert_eq!(s3.secret_key, SecretSource::File("/etc/lifeboat/s3-secret".into()));
    assert!(s3.path_style && s3.ca_file.is_none());
}

#[test]
fn gcs_and_azure() {
    let gcs = "[repository.gcs]\nbucket = \"clinic_backup.example\"\nprefix = \"/a/b/\"\nservice_account_file = \"gcs.json\"\nca_file = \"ca.pem\"\n";
    let (config, warnings) = parse(&changed(&[(LOCAL, gcs)]), Path::new(FILE)).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let expected = GcsConfig {
        endpoint: None,
        bucket: "clinic_backup.example".into(),
        prefix: "a/b/".into(),
        service_account: SecretSource::File("/etc/lifeboat/gcs.json".into()),
        ca_file: Some("/etc/lifeboat/ca.pem".into()),
    };
    assert_eq!(config.repository, RepositoryConfig::Gcs(expected));
    let secrets: Vec<_> =
        config.files().iter().filter(|file| file.kind == FileKind::Secret).map(|file| &file.path).collect();
    assert!(secrets.contains(&&Path::new("/etc/lifeboat/gcs.json").to_owned()), "its mode is looked at: {secrets:?}");

    let azure = "[repository.azure]\nendpoint = \"http://127.0.0.1:10000/clinic\"\naccount = \"clinic1\"\ncontainer = \"backup-1\"\nsas_env = \"SAS\"\n";
    let (config, warnings) = parse(&changed(&[(LOCAL, azure)]), Path::new(FILE)).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let RepositoryConfig::Azure(azure) = config.repository else { panic!("not Azure") };
    assert_eq!(azure.endpoint.unwrap().as_str(), "http://127.0.0.1:10000/clinic");
    assert_eq!((azure.account.as_str(), azure.container.as_str(), azure.prefix.as_str()), ("clinic1", "backup-1", ""));
    assert_eq!(azure.credential, AzureSecret::Sas(SecretSource::Env("SAS".into())));
}

#[test]
fn gcs_and_azure_problems() {
    let gcs = "[repository.gcs]\nbucket = \"lifeboat\"\nservice_account_env = \"G\"\n";
    let azure = "[repository.azure]\naccount = \"clinic\"\ncontainer = \"backup\"\naccess_key_env = \"K\"\n";
    let cases = [
        (
            gcs,
            "\"lifeboat\"",
            "\"Lifeboat\"",
            "F:3: repository.gcs.bucket: not a bucket name; use 3 to 222 of a-z, 0-9, '-', '_' and '.', starting and ending with a letter or digit",
        ),
        (
            gcs,
            "service_account_env = \"G\"\n",
            "",
            "F:2: repository.gcs.service_account_file: missing; add service_account_file = \"…\" (mode 0600) or service_account_env = \"…\"",
        ),
        (
            gcs,
            "service_account_env = \"G\"",
            "service_account = \"hunter2\"",
            "F:4: repository.gcs.service_account: a secret must not stand in the configuration; write it to a file with mode 0600 and name that in service_account_file (or name a variable in service_account_env); change the secret if others have seen this file",
        ),
        (
            gcs,
            "\nbucket",
            "\nendpoint = \"https://storage.googleapis.com/lifeboat\"\nbucket",
            "F:3: repository.gcs.endpoint: holds more than the service's address; write scheme, host and port alone; bucket and prefix have keys of their own",
        ),
        (
            gcs,
            "[repository.gcs]",
            "[repository]\npath = \"b\"\n[repository.gcs]",
            "F:2: repository: path and gcs are both set; keep one of the two",
        ),
        (
            azure,
            "\"clinic\"",
            "\"cli-nic\"",
            "F:3: repository.azure.account: not the name of a storage account; use 3 to 24 of a-z and 0-9, as it stands before \".blob.core.windows.net\"",
        ),
        (
            azure,
            "\"backup\"",
            "\"back_up\"",
            "F:4: repository.azure.container: not a container name; use 3 to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit",
        ),
        (
            azure,
            "access_key_env = \"K\"\n",
            "",
            "F:2: repository.azure.sas_file: missing; add sas_file = \"…\" (mode 0600) or sas_env = \"…\", a shared access signature; or access_key_file or access_key_env",
        ),
        (
            azure,
            "access_key_env = \"K\"",
            "access_key_env = \"K\"\nsas_env = \"S\"",
            "F:2: repository.azure: access_key and sas are both set; keep one of the two",
        ),
        (
            azure,
            "\naccount",
            "\nendpoint = \"https://me:hunter2@blob.example.org\"\naccount",
            "F:3: repository.azure.endpoint: holds a user name or password; use access_key_file or sas_file; change the secret if others have seen this file",
        ),
        (
            azure,
            "\naccount",
            "\nendpoint = \"https://blob.example.org/?sig=hunter2\"\naccount",
            "F:3: repository.azure.endpoint: holds more than the service's address; write scheme, host and port alone; bucket and prefix have keys of their own",
        ),
    ];
    for (base, old, new, expected) in cases {
        assert_eq!(base.matches(old).count(), 1, "{old:?}");
        check_problems(&[(LOCAL, &base.replace(old, new))], &[expected]);
    }
    let lock = "[tiers.gold.lock]\nmode = \"governance\"\nminimum = \"1d\"\n";
    let places = [
        (gcs, "F:13: tiers.gold.lock: a bucket of Google Cloud Storage, as it is used here,"),
        (azure, "F:14: tiers.gold.lock: a container of Azure Blob Storage, as it is used here,"),
    ];
    for (place, expected) in places {
        let found = findings(&changed(&[(LOCAL, place), (GOLD, &format!("{GOLD}{lock}"))]));
        let [found] = found.as_slice() else { panic!("{found:#?}") };
        assert!(
            found.starts_with(&format!("{expected} is not immutable: nothing in it can be locked; use an S3 bucket")),
            "{found}"
        );
    }
}

#[test]
fn s3_problems() {
    let base = "[repository.s3]\nendpoint = \"https://s3.example.org\"\nbucket = \"lifeboat\"\nprefix = \"a\"\naccess_key_env = \"A\"\nsecret_key_env = \"S\"\n";
    let cases = [
        (
            "endpoint = \"https://s3.example.org\"\n",
            "",
            "F:2: repository.s3.region: missing; add region = \"eu-central-1\", or the endpoint of another service",
        ),
        (
            "https://s3.example.org",
            "s3.example.org",
            "F:3: repository.s3.endpoint: not a URL; write it like \"https://s3.example.org\"",
        ),
        (
            "https://s3.example.org",
            "ftp://s3.example.org",
            "F:3: repository.s3.endpoint: not an http or https URL; write it like \"https://s3.example.org\"",
        ),
        (
            "https://s3.example.org",
            "https://s3.example.org/lifeboat",
            "F:3: repository.s3.endpoint: holds more than the service's address; write scheme, host and port alone; bucket and prefix have keys of their own",
        ),
        (
            "https://s3.example.org",
            "https://me:hunter2@s3.example.org",
            "F:3: repository.s3.endpoint: holds a user name or password; use access_key_file and secret_key_file; change the secret if others have seen this file",
        ),
        (
            "\"lifeboat\"",
            "\"Life_Boat\"",
            "F:4: repository.s3.bucket: not a bucket name; use 3 to 63 of a-z, 0-9, '-' and '.', starting and ending with a letter or digit",
        ),
        (
            "\"a\"",
            "\"a//b\"",
            "F:5: repository.s3.prefix: not a usable prefix; use letters, digits, '-', '_', '.' and single '/' between names",
        ),
        (
            "access_key_env = \"A\"\n",
            "",
            "F:2: repository.s3.access_key_file: missing; add access_key_file = \"…\" (mode 0600) or access_key_env = \"…\"",
        ),
        (
            "secret_key_env = \"S\"",
            "secret_key_env = \"S\"\nsecret_key_file = \"s\"",
            "F:7: repository.s3.secret_key_env: secret_key_file is set as well; keep one of the two",
        ),
        (
            "secret_key_env = \"S\"",
            "secret_key = \"hunter2\"",
            "F:7: repository.s3.secret_key: a secret must not stand in the configuration; write it to a file with mode 0600 and name that in secret_key_file (or name a variable in secret_key_env); change the secret if others have seen this file",
        ),
        (
            "\"S\"",
            "\"hunter2/+\"",
            "F:7: repository.s3.secret_key_env: not the name of an environment variable; write the variable's name (letters, digits and _), not the secret",
        ),
    ];
    for (old, new, expected) in cases {
        assert_eq!(base.matches(old).count(), 1, "{old:?}");
        let section = base.replace(old, new);
        check_problems(&[("[repository]\npath = \"backups\"\n", &section)], &[expected]);
    }
}

const BUCKET: &str =
    "bucket = \"lifeboat\"\nendpoint = \"https://s3.example.org\"\naccess_key_env = \"A\"\nsecret_key_env = \"S\"\n";

fn in_a_bucket() -> String {
    changed(&[(LOCAL, &format!("[repository.s3]\n{BUCKET}"))])
}

#[test]
fn locks_and_retention_arrive() {
    let section = "[tiers.gold.lock]\nmode = \"compliance\"\nminimum = \"14d\"\n[tiers.gold.retention]\n\
                   time_zone = \"Europe/Berlin\"\nlast = 3\nhourly = 24\ndaily = 7\nweekly = 5\nmonthly = 12\n\
                   yearly = 7\npitr = \"7d\"\ndrilled = 2\n[evidence]\nretain = \"3650d\"\n";
    let text = in_a_bucket().replace(GOLD, &format!("{GOLD}{section}"));
    let (config, warnings) = parse(&text, Path::new(FILE)).unwrap_or_else(|found| panic!("{:#?}", shown(&found)));
    assert!(warnings.is_empty(), "{warnings:?}");
    let tier = config.tier_of(config.instance("clinic").unwrap().1).unwrap().clone();
    let lock = tier.lock.unwrap();
    assert_eq!((lock.mode.word(), lock.minimum.to_string().as_str()), ("compliance", "14d 0h"));
    let kept = tier.retention.unwrap();
    assert_eq!(kept.time_zone.name(), "Europe/Berlin");
    assert_eq!([kept.last, kept.hourly, kept.daily, kept.weekly, kept.monthly, kept.yearly], [3, 24, 7, 5, 12, 7]);
    assert_eq!((kept.pitr.unwrap().0.as_secs(), kept.drilled), (7 * 86_400, 2));
    assert_eq!(config.evidence.retain.0.as_secs(), 3650 * 86_400);
    assert_eq!(config.evidence_lock(), Some(crate::retention::LockMode::Compliance));
    let plain = good();
    let tier = plain.tier_of(plain.instance("clinic").unwrap().1).unwrap();
    assert_eq!((tier.lock, &tier.retention, plain.evidence_lock()), (None, &None, None));
    assert_eq!(plain.evidence.retain.0.as_secs(), 2192 * 86_400, "six years");
}

#[test]
fn locks_and_retention_are_checked() {
    let in_bucket = |section: &str| in_a_bucket().replace(GOLD, &format!("{GOLD}{section}"));
    let cases = [
        (
            "[tiers.gold.lock]\nmode = \"strict\"\nminimum = \"14d\"\n",
            "F:16: tiers.gold.lock.mode: not a lock mode; use \"compliance\" (nobody can delete early) or \"governance\" (who has a special right can)",
        ),
        (
            "[tiers.gold.lock]\nmode = \"governance\"\n",
            "F:15: tiers.gold.lock.minimum: missing; say how long objects are locked at the least, for example \"14d\"",
        ),
        (
            "[tiers.gold.lock]\nmode = \"governance\"\nminimum = \"4000d\"\n",
            "F:17: tiers.gold.lock.minimum: is out of range; use \"1m\" to \"3660d\"",
        ),
        (
            "[tiers.gold.retention]\ntime_zone = \"Berlin\"\nlast = 1\n",
            "F:16: tiers.gold.retention.time_zone: not a time zone; did you mean \"Europe/Berlin\"?",
        ),
        (
            "[tiers.gold.retention]\ntime_zone = \"Nowhere/At_All\"\nlast = 1\n",
            "F:16: tiers.gold.retention.time_zone: not a time zone; use an IANA name, for example \"Europe/Berlin\"",
        ),
        (
            "[tiers.gold.retention]\ndayly = 7\n",
            "F:16: tiers.gold.retention.dayly: unknown key; did you mean \"daily\"?",
        ),
        (
            "[tiers.gold.retention]\ndaily = -1\n",
            "F:16: tiers.gold.retention.daily: the number is out of range; use 0 to 100000",
        ),
        (
            "[tiers.gold.retention]\npitr = 7\n",
            "F:16: tiers.gold.retention.pitr: expected a time span in quotes, found a whole number; for example \"15m\"",
        ),
        (
            "[tiers.gold.retention]\ndrilled = 1\n",
            "F:15: tiers.gold.retention: keeps nothing but the newest point and those that passed a drill; say what to keep, for example daily = 7; or remove the section, then everything is kept",
        ),
        (
            "[evidence]\nretain = \"soon\"\n",
            "F:16: evidence.retain: \"soon\" is not a time span: write a whole number and ms, s, m, h or d, for example \"15m\"",
        ),
    ];
    for (section, expected) in cases {
        let found = findings(&in_bucket(section));
        assert_eq!(found.first().map(String::as_str), Some(expected), "{section}: {found:#?}");
    }
}

#[test]
fn a_directory_locks_nothing() {
    let lock = "[tiers.gold.lock]\nmode = \"governance\"\nminimum = \"1d\"\n";
    let expected = "F:12: tiers.gold.lock: a directory is not immutable: nothing in it can be locked; use an S3 bucket that was made with object lock, or remove this section, and backups are not locked";
    check_problems(&[(GOLD, &format!("{GOLD}{lock}"))], &[expected]);
    // A tier that no instance uses demands nothing.
    let unused = format!("{GOLD}[tiers.silver]\nrpo = \"1h\"\nrto = \"1h\"\n{}", lock.replace("gold", "silver"));
    check_warnings(&[(GOLD, &unused)], &[]);
}

/// Sections of several repositories: the first in a bucket, each of the others as given.
fn several(primary: &str, others: &[&str]) -> String {
    let first = format!("[[repository]]\n{primary}[repository.s3]\n{BUCKET}");
    let others: String = others.iter().map(|other| format!("[[repository]]\n{other}")).collect();
    changed(&[(LOCAL, &(first + &others))])
}

const MAIN: &str = "name = \"main\"\nrole = \"primary\"\n";

#[test]
fn several_repositories_arrive() {
    let offsite = "name = \"offsite\"\nrole = \"copy\"\nlock = \"governance\"\n[repository.s3]\nbucket = \"offsite\"\nregion = \"eu-central-1\"\naccess_key_env = \"A\"\nsecret_key_env = \"S\"\n";
    let disk = "name = \"disk\"\nrole = \"copy\"\nlock = \"none\"\npath = \"/mnt/disk\"\n";
    let (config, warnings) =
        parse(&several(MAIN, &[offsite, disk]), Path::new(FILE)).unwrap_or_else(|found| panic!("{:#?}", shown(&found)));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.repository_names().collect::<Vec<_>>(), ["main", "offsite", "disk"]);
    assert!(matches!(&config.repository, RepositoryConfig::S3(s3) if s3.bucket == "lifeboat"));
    assert!(matches!(&config.copies[0].repository, RepositoryConfig::S3(s3) if s3.bucket == "offsite"));
    assert_eq!(config.copies[0].lock, Some(CopyLock::Mode(crate::retention::LockMode::Governance)));
    assert_eq!(config.copies[1].lock, Some(CopyLock::None));
    assert_eq!(config.copies[1].repository, RepositoryConfig::Local { path: "/mnt/disk".into() });
    assert_eq!((good().repository_name.as_str(), good().copies.len()), ("main", 0));
    let named = changed(&[(LOCAL, "[repository]\nname = \"vault\"\npath = \"backups\"\n")]);
    assert_eq!(parse(&named, Path::new(FILE)).unwrap().0.repository_name, "vault");
}

#[test]
fn several_repositories_are_checked() {
    let disk = "name = \"disk\"\nrole = \"copy\"\npath = \"/mnt/disk\"\n";
    let same = format!("name = \"other\"\nrole = \"copy\"\n[repository.s3]\n{BUCKET}");
    let two = disk.replace("\"copy\"", "\"primary\"");
    let cases: [(&str, &[&str], &str); 11] = [
        (
            MAIN,
            &[&two],
            "F:10: repository[1]: there is a primary already; backups go to one repository: make this a copy",
        ),
        (
            "name = \"main\"\nrole = \"copy\"\n",
            &[disk],
            "F:2: repository: none of them is the primary; give the one that backups go to role = \"primary\"",
        ),
        (
            MAIN,
            &[&disk.replace("disk\"\nrole", "main\"\nrole")],
            "F:10: repository[1]: another repository has the same name; give each a name of its own",
        ),
        (
            MAIN,
            &[&same],
            "F:10: repository[1]: lies in the same place as \"main\"; a copy that goes with the original is none: use another place",
        ),
        (
            MAIN,
            &[&format!("{same}prefix = \"within\"\n")],
            "F:10: repository[1]: lies in the same place as \"main\"; a copy that goes with the original is none: use another place",
        ),
        (
            MAIN,
            &[&disk.replace("name = \"disk\"\n", "")],
            "F:10: repository[1].name: missing; add name = \"…\", what commands and reports call this repository",
        ),
        (
            MAIN,
            &[&disk.replace("disk\"\nrole", "Disk 1\"\nrole")],
            "F:11: repository[1].name: \"Disk 1\" is not a valid name: use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit",
        ),
        (
            MAIN,
            &[&disk.replace("\"copy\"", "\"mirror\"")],
            "F:12: repository[1].role: not a role; use \"primary\" (backups go there) or \"copy\"",
        ),
        (
            MAIN,
            &[&disk.replace("path = \"/mnt/disk\"\n", "")],
            "F:10: repository[1]: names no place; add path = \"/srv/lifeboat\" or a [repository.s3] section",
        ),
        (
            "name = \"main\"\nrole = \"primary\"\nlock = \"none\"\n",
            &[disk],
            "F:5: repository[0].lock: the primary is locked as each tier says; remove it, and see [tiers.<name>.lock]",
        ),
        (
            MAIN,
            &[&format!("{disk}lock = \"firm\"\n")],
            "F:14: repository[1].lock: not a lock mode; use \"compliance\" (nobody can delete early) or \"governance\" (who has a special right can)",
        ),
    ];
    for (primary, others, expected) in cases {
        let found = findings(&several(primary, others));
        assert_eq!(found, [expected], "{primary}{others:?}");
    }
    let lock = format!("{GOLD}[tiers.gold.lock]\nmode = \"governance\"\nminimum = \"1d\"\n");
    let found = findings(&several(MAIN, &[disk]).replace(GOLD, &lock));
    let expected = "F:10: repository[1]: a directory is not immutable, and tier \"gold\" demands locks of this copy as well; add lock = \"none\" if this copy is to have none, or use an S3 bucket with object lock";
    assert_eq!(found, [expected]);
    let unlocked = several(MAIN, &[&format!("{disk}lock = \"none\"\n")]).replace(GOLD, &lock);
    assert_eq!(findings(&unlocked), Vec::<String>::new());
}

#[test]
fn what_storage_costs() {
    assert_eq!(good().price, None);
    let path = "path = \"backups\"\n";
    let with = |price: &str| changed(&[(path, &format!("{path}price_per_gb_month = {price}\n"))]);
    let (config, _) = parse(&with("\"0.023 USD\""), Path::new(FILE)).unwrap();
    assert_eq!(config.price, Some(crate::price::Price { amount: 0.023, currency: "USD".into() }));
    for bad in ["\"USD\"", "\"0,02 EUR\"", "\"\""] {
        let found = findings(&with(bad)).join("\n");
        assert!(found.contains("repository.price_per_gb_month"), "{bad}: {found}");
    }
    let list = "[[repository]]\nname = \"one\"\nrole = \"primary\"\npath = \"backups\"\nprice_per_gb_month = \"1 EUR\"\n[[repository]]\nname = \"two\"\nrole = \"copy\"\npath = \"copies\"\n";
    let text = changed(&[("[repository]\npath = \"backups\"\n", list)]);
    assert_eq!(parse(&text, Path::new(FILE)).unwrap().0.price.unwrap().to_string(), "1.00 EUR");
    let of_copy = text.replace("path = \"copies\"\n", "path = \"copies\"\nprice_per_gb_month = \"1 EUR\"\n");
    let found = findings(&of_copy).join("\n");
    assert!(found.contains("the cost of a copy is not told"), "{found}");
}
