//! Messages as people see them. Each case is the good file with some lines changed.

mod dependencies;
mod rehearsals;
mod repositories;
mod stamped;

use std::path::Path;

use super::*;

const GOOD: &str = r#"tenant = "clinics"
[repository]
path = "backups"
[keys]
recovery_recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"]
host_identity_file = "keys/host.age"
signing_key_file = "keys/signing"
trusted_keys = ["lifeboat-ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw="]
[tiers.gold]
rpo = "15m"
rto = "4h"
[instances.clinic]
tier = "gold"
owner = "Operations"
[instances.clinic.postgres]
host = "db.example.org"
port = 5433
user = "lifeboat"
password_file = "/etc/lifeboat/password"
root_cert_file = "ca.pem"
databases = ["clinic", "clinic_test"]
[instances.clinic.filestore]
path = "/srv/odoo/filestore"
[instances.clinic.config]
paths = ["/etc/odoo", "/srv/addons/"]
[[instances.clinic.config.commands]]
name = "redis.rdb"
run = ["redis-cli", "--rdb", "-", ""]
timeout = "5m"
[instances.clinic.drill]
postgres_image = "postgres:17"
odoo_image = "odoo:19"
addons = ["/srv/addons/custom"]
memory = "3 GiB"
timeout = "20m"
required = ["boot.log", "data.digests"]
[engine]
state_dir = "/var/lib/lifeboat"
compression_level = 5
pack_size = "8 MiB"
workers = 2
uploads = 4
"#;

const FILE: &str = "/etc/lifeboat/lifeboat.toml";

/// What to replace in the good file, and with what.
type Changes<'a> = &'a [(&'a str, &'a str)];

fn changed(changes: Changes<'_>) -> String {
    changes.iter().fold(GOOD.to_owned(), |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "{old:?} must stand once in the good file");
        text.replace(old, new)
    })
}

fn shown(findings: &[Problem]) -> Vec<String> {
    findings.iter().map(|finding| finding.to_string().replace("/etc/lifeboat/lifeboat.toml", "F")).collect()
}

/// The problems, or the warnings of a file without problems.
fn findings(text: &str) -> Vec<String> {
    match parse(text, Path::new(FILE)) {
        Ok((_, warnings)) => shown(&warnings),
        Err(problems) => shown(&problems),
    }
}

#[track_caller]
fn check_problems(changes: Changes<'_>, expected: &[&str]) {
    let text = changed(changes);
    let found = parse(&text, Path::new(FILE)).map(|_| ()).expect_err("must be refused");
    assert_eq!(shown(&found), expected, "{changes:?}");
}

#[track_caller]
fn check_warnings(changes: Changes<'_>, expected: &[&str]) {
    let text = changed(changes);
    let (_, warnings) = parse(&text, Path::new(FILE)).unwrap_or_else(|found| panic!("{:#?}", shown(&found)));
    assert_eq!(shown(&warnings), expected, "{changes:?}");
}

fn good() -> Config {
    parse(GOOD, Path::new(FILE)).unwrap_or_else(|found| panic!("{:#?}", shown(&found))).0
}

#[test]
fn every_value_arrives() {
    let config = good();
    let (name, clinic) = config.instance("clinic").unwrap();
    assert_eq!((config.tenant.as_str(), name.as_str()), ("clinics", "clinic"));
    assert_eq!(config.repository, RepositoryConfig::Local { path: "/etc/lifeboat/backups".into() });
    assert_eq!(config.keys.recovery_recipients.len(), 2);
    assert_eq!(config.keys.host_identity_file, Path::new("/etc/lifeboat/keys/host.age"));
    assert_eq!(config.keys.signing_key_file, Path::new("/etc/lifeboat/keys/signing"));
    assert_eq!(config.keys.trusted_keys.len(), 1);
    assert_eq!(config.keys.recovery_identity_file, None);
    let tier = config.tier_of(clinic).unwrap();
    assert_eq!((tier.rpo.0.as_secs(), tier.rto.0.as_secs()), (900, 14_400));
    assert_eq!(clinic.owner.as_deref(), Some("Operations"));
    assert_eq!(clinic.data_class, "unclassified");
    assert_eq!(
        clinic.postgres,
        PostgresConfig {
            host: "db.example.org".into(),
            port: 5433,
            user: "lifeboat".into(),
            password: Some(SecretSource::File("/etc/lifeboat/password".into())),
            tls: TlsMode::VerifyFull,
            root_cert_file: Some("/etc/lifeboat/ca.pem".into()),
            databases: vec!["clinic".into(), "clinic_test".into()],
            digests: true,
            wal: WalConfig::default(),
            witness: WitnessConfig::default(),
        }
    );
    assert_eq!(clinic.filestore.as_ref().unwrap().path, Path::new("/srv/odoo/filestore"));
    let sources = clinic.config.as_ref().unwrap();
    assert_eq!(sources.paths, [Path::new("/etc/odoo"), Path::new("/srv/addons")]);
    assert_eq!(sources.commands[0].run, ["redis-cli", "--rdb", "-", ""]);
    assert_eq!(sources.commands[0].timeout.0.as_secs(), 300);
    assert_eq!(clinic.drill.addons, [Path::new("/srv/addons/custom")]);
    assert_eq!((clinic.drill.memory.0, clinic.drill.timeout.0.as_secs()), (3 << 30, 1200));
    assert_eq!(clinic.drill.required, ["boot.log", "data.digests"]);
    let engine = &config.engine;
    assert_eq!((engine.compression_level, engine.pack_size.0, engine.workers, engine.uploads), (5, 8 << 20, 2, 4));
}

#[test]
fn defaults() {
    let engine = &GOOD[GOOD.find("[engine]").unwrap()..];
    let text = changed(&[
        ("port = 5433\n", ""),
        ("password_file = \"/etc/lifeboat/password\"\n", ""),
        ("timeout = \"5m\"\n", ""),
        ("memory = \"3 GiB\"\ntimeout = \"20m\"\nrequired = [\"boot.log\", \"data.digests\"]\n", ""),
        (engine, ""),
    ]);
    let (config, warnings) = parse(&text, Path::new("lifeboat.toml")).unwrap();
    let (_, clinic) = config.instance("clinic").unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.repository, RepositoryConfig::Local { path: "backups".into() });
    assert_eq!((clinic.postgres.port, &clinic.postgres.password), (5432, &None));
    assert_eq!(clinic.config.as_ref().unwrap().commands[0].timeout.0.as_secs(), 60);
    assert_eq!((clinic.drill.memory.0, clinic.drill.timeout.0.as_secs()), (2 << 30, 1800));
    assert_eq!(config.engine.state_dir, Path::new("/var/lib/lifeboat"));
    let engine = &config.engine;
    assert_eq!((engine.compression_level, engine.pack_size.0, engine.workers, engine.uploads), (3, 16 << 20, 0, 3));
}

#[test]
fn problems_one_by_one() {
    let cases: &[(Changes<'_>, &str)] = &[
        (&[("tenant = \"clinics\"\n", "")], "F: tenant: missing; add tenant = \"…\", the owner of the instances"),
        (
            &[("\"clinics\"", "\"Clinics\"")],
            "F:1: tenant: \"Clinics\" is not a valid name: use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit",
        ),
        (
            &[("owner = \"Operations\"", "data_class = \"Health data\"")],
            "F:14: instances.clinic.data_class: a class of data is one plain word; write one word of at most 63 of a-z, 0-9, '-' and '_', for example \"health\"",
        ),
        (
            &[("tenant = \"clinics\"", "tenant = 7")],
            "F:1: tenant: expected a text, found a whole number; put it in double quotes",
        ),
        (
            &[("path = \"backups\"\n", "")],
            "F:2: repository: names no place; add path = \"/srv/lifeboat\" or a [repository.s3] section",
        ),
        (
            &[("port = 5433", "prot = 5433")],
            "F:17: instances.clinic.postgres.prot: unknown key; did you mean \"port\"?",
        ),
        (
            &[("port = 5433", "port = 0")],
            "F:17: instances.clinic.postgres.port: the number is out of range; use 1 to 65535",
        ),
        (
            &[("port = 5433", "port = 99999999999999999999")],
            "F:17: instances.clinic.postgres.port: the number is out of range; use 1 to 65535",
        ),
        (
            &[("port = 5433", "port = \"5433\"")],
            "F:17: instances.clinic.postgres.port: expected a whole number, found a text; write it without quotes",
        ),
        (
            &[("port = 5433", "port = 54.33")],
            "F:17: instances.clinic.postgres.port: expected a whole number, found a number with a fraction",
        ),
        (&[("host = \"db.example.org\"", "host = \"\"")], "F:16: instances.clinic.postgres.host: is empty"),
        (
            &[("host = \"db.example.org\"", "host = \"db.example.org:5432\"")],
            "F:16: instances.clinic.postgres.host: is not a host name or address; write the port in port = …, and an IPv6 address without brackets",
        ),
        (
            &[("host = \"db.example.org\"", "host = \"/run/postgresql\"")],
            "F:16: instances.clinic.postgres.host: is a path; write a host name or address; connections go over TCP",
        ),
        (
            &[("databases = [\"clinic\", \"clinic_test\"]", "databases = []")],
            "F:21: instances.clinic.postgres.databases: the list is empty; name the Odoo databases",
        ),
        (
            &[("databases = [\"clinic\", \"clinic_test\"]", "databases = \"clinic\"")],
            "F:21: instances.clinic.postgres.databases: expected a list, found a text; put it in brackets: [\"…\"]",
        ),
        (
            &[("\"clinic_test\"", "\"clinic\"")],
            "F:21: instances.clinic.postgres.databases[1]: stands in the list twice; remove one",
        ),
        (
            &[("\"clinic_test\"", "\"../x\"")],
            "F:21: instances.clinic.postgres.databases[1]: not the name of an Odoo database; write the name as `psql -l` shows it: at most 63 bytes, without '/' and not starting with '.'",
        ),
        (
            &[("user = \"lifeboat\"", "user = \"lifeboat\"\ntls = \"verify_full\"")],
            "F:19: instances.clinic.postgres.tls: no such mode; did you mean \"verify-full\"?",
        ),
        (
            &[("user = \"lifeboat\"", "user = \"lifeboat\"\ntls = \"on\"")],
            "F:19: instances.clinic.postgres.tls: no such mode; use one of: disable, require, verify-ca, verify-full",
        ),
        (&[("rto = \"4h\"", "rto = \"0s\"")], "F:11: tiers.gold.rto: is out of range; use \"1s\" to \"366d\""),
        (
            &[("rto = \"4h\"", "rto = 4")],
            "F:11: tiers.gold.rto: expected a time span in quotes, found a whole number; for example \"15m\"",
        ),
        (
            &[("rto = \"4h\"", "rto = \"4 hours\"")],
            "F:11: tiers.gold.rto: \"4 hours\" is not a time span: write a whole number and ms, s, m, h or d, for example \"15m\"",
        ),
        (
            &[("rto = \"4h\"\n", "")],
            "F:9: tiers.gold.rto: missing; say how long a recovery may take, for example rto = \"4h\"",
        ),
        (
            &[("tier = \"gold\"", "tier = \"silver\"")],
            "F:13: instances.clinic.tier: no tier \"silver\"; use one of: gold, or add a [tiers.silver] section",
        ),
        (
            &[("[tiers.gold]\nrpo = \"15m\"\nrto = \"4h\"\n", "")],
            "F:10: instances.clinic.tier: no tier \"gold\"; add a [tiers.gold] section with rpo and rto",
        ),
        (
            &[("[tiers.gold]", "[tiers.Gold]"), ("tier = \"gold\"", "tier = \"Gold\"")],
            "F:9: tiers.Gold: not a valid name; use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit|F:13: instances.clinic.tier: \"Gold\" is not a valid name: use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit",
        ),
        (
            &[("compression_level = 5", "compression_level = 20")],
            "F:39: engine.compression_level: the number is out of range; use 1 to 19",
        ),
        (
            &[("\"8 MiB\"", "\"8 MB\"")],
            "F:40: engine.pack_size: \"8 MB\" is not a size: write a whole number and a unit, for example \"64 MiB\"",
        ),
        (&[("\"8 MiB\"", "\"1 GiB\"")], "F:40: engine.pack_size: is out of range; use \"4 MiB\" to \"64 MiB\""),
        (&[("[engine]", "[engin]")], "F:37: engin: unknown key; did you mean \"engine\"?"),
        (
            &[("[engine]", "[colours]")],
            "F:37: colours: unknown key; known here: drills, engine, evidence, instances, keys, limits, repository, tenant, tiers",
        ),
        (
            &[("paths = [\"/etc/odoo\", ", "paths = [\"etc/odoo\", ")],
            "F:25: instances.clinic.config.paths[0]: is not an absolute path; write the whole path from / on, without . and ..",
        ),
        (
            &[("paths = [\"/etc/odoo\", ", "paths = [\"/etc/../odoo\", ")],
            "F:25: instances.clinic.config.paths[0]: is not an absolute path; write the whole path from / on, without . and ..",
        ),
        (
            &[("paths = [\"/etc/odoo\", ", "paths = [\"/\", ")],
            "F:25: instances.clinic.config.paths[0]: would take in the whole machine; name the files and folders that belong to this instance",
        ),
        (
            &[("name = \"redis.rdb\"", "name = \"../redis\"")],
            "F:27: instances.clinic.config.commands[0].name: not a usable file name; use 1 to 63 of letters, digits, '.', '_' and '-', starting with a letter or digit",
        ),
        (
            &[("run = [\"redis-cli\", \"--rdb\", \"-\", \"\"]", "run = []")],
            "F:28: instances.clinic.config.commands[0].run: the list is empty; write the program and its arguments: [\"program\", \"argument\"]",
        ),
        (
            &[("run = [\"redis-cli\", \"--rdb\", \"-\", \"\"]", "run = \"redis-cli --rdb -\"")],
            "F:28: instances.clinic.config.commands[0].run: expected a list, found a text; put it in brackets: [\"…\"]",
        ),
        (
            &[(
                "timeout = \"5m\"",
                "timeout = \"5m\"\n[[instances.clinic.config.commands]]\nname = \"redis.rdb\"\nrun = [\"true\"]",
            )],
            "F:30: instances.clinic.config.commands[1]: there is another command named \"redis.rdb\"; the name is the file the output is kept in: give each its own",
        ),
        (
            &[("\"/srv/addons/custom\"", "\"/opt/addons\"")],
            "F:33: instances.clinic.drill.addons: /opt/addons lies in none of config.paths, so no backup holds it; add it to config.paths",
        ),
        (
            &[("postgres_image = \"postgres:17\"\nodoo_image = \"odoo:19\"", "odoo_image = \"odoo 19\"")],
            "F:30: instances.clinic.drill.postgres_image: missing; name the image of the instance's PostgreSQL, for example \"postgres:17\"|F:31: instances.clinic.drill.odoo_image: not the name of an image; write it as `docker images` shows it, for example \"odoo:19\"",
        ),
        (
            &[("\"boot.log\"", "\"Boot Log\"")],
            "F:36: instances.clinic.drill.required[0]: not the id of a check; write ids as a drill's table shows them, for example \"boot.log\"",
        ),
        (
            &[("[engine]\n", "[instances.clinic.dump]\nprogram = \"pg_dump\"\n[engine]\n")],
            "F:38: instances.clinic.dump.program: not a program; use \"auto\", \"image\" (that of drill.postgres_image) or the absolute path of a pg_dump",
        ),
        (
            &[("[instances.clinic]\n", "[instances.\"Clinic No 1\"]\nx = 1\n[instances.clinic]\n")],
            "F:12: instances.\"Clinic No 1\": not a valid name; use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit|F:12: instances.\"Clinic No 1\".tier: missing; add tier = \"…\" with the name of a [tiers] section|F:12: instances.\"Clinic No 1\".postgres: missing; add the section with host, user and databases|F:12: instances.\"Clinic No 1\".drill: missing; add the section with postgres_image and odoo_image: a backup that is never rehearsed proves nothing|F:13: instances.\"Clinic No 1\".x: unknown key; known here: config, data_class, dependencies, drill, dump, filestore, owner, postgres, tier",
        ),
        (
            &[("recovery_recipients = [\"age1ql", "recovery_recipients = [\"age1pl")],
            "F:5: keys.recovery_recipients[0]: a recipient with a wrong letter or length; copy it again; nothing sealed to it could be opened",
        ),
        (
            &[("recovery_recipients = [\"age1ql", "recovery_recipients = [\"gpg:AAAAC3")],
            "F:5: keys.recovery_recipients[0]: not an age recipient; a recipient starts with age1, ssh-ed25519 or ssh-rsa",
        ),
        (
            &[("trusted_keys = [\"lifeboat-ed25519:6", "trusted_keys = [\"ed25519:6")],
            "F:8: keys.trusted_keys[0]: not a Lifeboat public key; write \"lifeboat-ed25519:\" and 44 base64 characters, as `lifeboat init` printed it",
        ),
        (
            &[("path = \"backups\"", "path = \"/srv/odoo/filestore/backups\"")],
            "F:23: instances.clinic.filestore.path: the repository lies in here: a backup would take in itself; keep the repository elsewhere",
        ),
        (
            &[("host_identity_file = \"keys/host.age\"", "host_identity_file = \"backups/host.age\"")],
            "F:6: keys.host_identity_file: lies in the repository: whoever copies that has the key as well; keep it elsewhere",
        ),
        (
            &[("path = \"backups\"", "path = \"backups\"\ns3 = 1")],
            "F:4: repository.s3: expected a table, found a whole number; write a [repository.s3] section",
        ),
    ];
    for (changes, expected) in cases {
        check_problems(changes, &expected.split('|').collect::<Vec<_>>());
    }
}

#[test]
fn all_problems_at_once_in_the_order_of_the_file() {
    check_problems(
        &[
            ("\"clinics\"", "\"A B\""),
            ("rpo = \"15m\"", "rpo = \"soon\""),
            ("port = 5433", "port = 70000\ncolour = 1"),
            ("workers = 2", "workers = true"),
        ],
        &[
            "F:1: tenant: \"A B\" is not a valid name: use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit",
            "F:10: tiers.gold.rpo: \"soon\" is not a time span: write a whole number and ms, s, m, h or d, for example \"15m\"",
            "F:17: instances.clinic.postgres.port: the number is out of range; use 1 to 65535",
            "F:18: instances.clinic.postgres.colour: unknown key; known here: databases, digests, host, password_env, password_file, port, root_cert_file, tls, user, wal, witness",
            "F:42: engine.workers: expected a whole number, found true or false",
        ],
    );
}

#[test]
fn syntax_errors_have_a_line_and_no_excerpt() {
    let cases = [
        ("port = 5433", "port 5433", "F:17: not valid TOML: key with no value, expected `=`; correct this line"),
        ("port = 5433", "port = 5433\nport = 5434", "F:18: not valid TOML: duplicate key; correct this line"),
        ("[engine]", "[engine", "F:37: not valid TOML: unclosed table, expected `]`; correct this line"),
    ];
    for (old, new, expected) in cases {
        check_problems(&[(old, new)], &[expected]);
    }
    // What follows the first syntax error is a guess of the parser: it is not reported.
    check_problems(
        &[("port = 5433", "port 5433"), ("[engine]", "[engine")],
        &["F:17: not valid TOML: key with no value, expected `=`; correct this line"],
    );
    assert_eq!(findings("")[0], "F: tenant: missing; add tenant = \"…\", the owner of the instances");
}

#[test]
fn warnings() {
    let public = "port = 5433\ntls = ";
    let cases: &[(Changes<'_>, &[&str])] = &[
        (&[], &[]),
        (
            &[("port = 5433", &format!("{public}\"disable\""))],
            &[
                "F:18: instances.clinic.postgres.tls: the whole database travels in plain text to this host; use tls = \"verify-full\" with root_cert_file",
            ],
        ),
        (&[("port = 5433", &format!("{public}\"disable\"")), ("\"db.example.org\"", "\"127.0.0.2\"")], &[]),
        (&[("port = 5433", &format!("{public}\"disable\"")), ("\"db.example.org\"", "\"::1\"")], &[]),
        (
            &[("port = 5433", &format!("{public}\"require\""))],
            &[
                "F:18: instances.clinic.postgres.tls: encrypted, but to whoever answers: the server's certificate is not checked; use tls = \"verify-full\" with root_cert_file",
            ],
        ),
        (
            &[(", \"age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg\"", "")],
            &[
                "F:5: keys.recovery_recipients: there is one recovery recipient: when its identity is lost, every backup is lost; add a second one whose identity is kept in another place",
            ],
        ),
        (
            &[(
                "signing_key_file = \"keys/signing\"",
                "signing_key_file = \"keys/signing\"\nrecovery_identity_file = \"/etc/odoo/recovery\"",
            )],
            &[
                "F:8: keys.recovery_identity_file: whoever takes this host can read every backup; keep the recovery identity elsewhere, and give it to a restore or drill only when it runs",
                "F:26: instances.clinic.config.paths[0]: the recovery identity lies in here: backups would hold the key that opens them; keep it elsewhere",
            ],
        ),
        (
            &[("[instances.clinic.filestore]\npath = \"/srv/odoo/filestore\"\n", "")],
            &[
                "F:12: instances.clinic: no filestore: attachments kept on a disk are not covered; add a filestore section, unless all attachments are in the database",
            ],
        ),
        (
            &[("\"/srv/odoo/filestore\"", "\"/srv/addons/filestore\"")],
            &[
                "F:25: instances.clinic.config.paths: the filestore lies in one of these paths and would be stored twice; leave it out of config.paths",
            ],
        ),
        (
            &[("\"/var/lib/lifeboat\"", "\"/etc/odoo/state\"")],
            &[
                "F:25: instances.clinic.config.paths[0]: engine.state_dir lies in here: its caches would be backed up; keep it elsewhere",
            ],
        ),
        (
            &[("\"--rdb\"", "\"--password=hunter2\"")],
            &[
                "F:28: instances.clinic.config.commands[0].run: an argument seems to hold a password, which every user of this host can see while the command runs; let the program read it from a file",
            ],
        ),
        (
            &[(
                "[repository]\npath = \"backups\"",
                "[repository.s3]\nendpoint = \"http://ceph.example.org\"\nbucket = \"lifeboat\"\naccess_key_env = \"A\"\nsecret_key_env = \"S\"",
            )],
            &[
                "F:3: repository.s3.endpoint: requests and their headers travel in plain text to another host; use https, with ca_file if its certificate is from your own authority",
            ],
        ),
        (
            &[(
                "[repository]\npath = \"backups\"",
                "[repository.s3]\nendpoint = \"http://127.0.0.1:7480\"\nbucket = \"lifeboat\"\naccess_key_env = \"A\"\nsecret_key_env = \"S\"",
            )],
            &[],
        ),
        (
            &[(&GOOD[GOOD.find("[instances.clinic]").unwrap()..GOOD.find("[engine]").unwrap()], "")],
            &["F: there is no instance: nothing is backed up; add an [instances.<name>] section"],
        ),
    ];
    for (changes, expected) in cases {
        check_warnings(changes, expected);
    }
}

/// A secret in the wrong place is never repeated, whatever its type and however broken the text around it is.
#[test]
fn secrets_are_never_repeated() {
    let password = "password_file = \"/etc/lifeboat/password\"";
    let inline = [
        "password = \"hunter2\"",
        "password = { value = \"hunter2\" }",
        "password = [\"hunter2\"]",
        "password = 'hunter2'",
        "password = \"hunter2",
        "password = hunter2",
        "password = \"\"\"hunter2\"\"\" x",
        "password \"hunter2\"",
        "password = \"a\\qhunter2\"",
        "password = \"x\"\npassword = \"hunter2\"",
        "password_env = \"hunter2!\"",
        "password_file = [\"hunter2\"]",
        "pasword = \"hunter2\"",
        "host = \"postgres://lifeboat:hunter2@db\"",
        "dsn = \"password=hunter2\"",
    ];
    for line in inline {
        let text = changed(&[(password, line)]);
        let found = parse(&text, Path::new(FILE)).map(|_| ()).expect_err(line);
        assert!(!found.is_empty(), "{line}");
        assert!(!format!("{found:?} {:?}", shown(&found)).contains("hunter2"), "{line}: {found:#?}");
    }
}

#[test]
fn a_private_key_is_refused_under_any_key_and_never_repeated() {
    let keys = [
        "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ",
        "age-secret-key-1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq",
        "LIFEBOAT-ED25519-SECRET:QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ=",
    ];
    let quoted = quoted_texts(GOOD);
    assert!(quoted.len() > 30);
    for key in keys {
        for range in &quoted {
            let text = format!("{}{key}{}", &GOOD[..range.start], &GOOD[range.end..]);
            let found = parse(&text, Path::new(FILE)).map(|_| ()).expect_err("a private key");
            let all = format!("{found:?}");
            assert!(all.contains("private key"), "{range:?}: {all}");
            assert!(!all.to_lowercase().contains("qqqqq"), "{range:?}: {all}");
        }
    }
}

/// The insides of all double-quoted texts.
fn quoted_texts(text: &str) -> Vec<std::ops::Range<usize>> {
    let quotes: Vec<usize> = text.match_indices('"').map(|(at, _)| at).collect();
    quotes.chunks_exact(2).map(|pair| pair[0] + 1..pair[1]).collect()
}

/// No text makes the reader panic, and no refused text is refused without a word.
#[test]
fn cut_and_damaged_files_are_refused_with_words() {
    for end in (0..GOOD.len()).filter(|end| GOOD.is_char_boundary(*end)) {
        let found = parse(&GOOD[..end], Path::new(FILE));
        assert!(found.is_ok() || found.is_err_and(|problems| !problems.is_empty()), "cut at {end}");
    }
    for at in 0..GOOD.len() {
        for byte in [b'"', b'[', b'\n'] {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            let found = parse(&text, Path::new(FILE));
            assert!(found.is_ok() || found.is_err_and(|problems| !problems.is_empty()), "byte {at} = {byte}");
        }
    }
}

#[test]
fn a_missing_instance_names_those_there_are() {
    let config = good();
    let error = config.instance("clinc").unwrap_err();
    assert_eq!(error.to_string(), "no instance \"clinc\" in the configuration; did you mean \"clinic\"?");
    let error = config.instance("warehouse").unwrap_err();
    assert_eq!(error.to_string(), "no instance \"warehouse\" in the configuration; it has: clinic");
}

#[test]
fn files_to_look_at() {
    let config = good();
    let files: Vec<(&str, &str, FileKind, usize)> = config
        .files()
        .iter()
        .map(|file| (file.key.as_str(), file.path.to_str().unwrap(), file.kind, file.line.unwrap()))
        .collect();
    let postgres = "instances.clinic.postgres";
    assert_eq!(
        files,
        [
            ("repository.path", "/etc/lifeboat/backups", FileKind::Created, 3),
            ("keys.host_identity_file", "/etc/lifeboat/keys/host.age", FileKind::Secret, 6),
            ("keys.signing_key_file", "/etc/lifeboat/keys/signing", FileKind::Secret, 7),
            (&format!("{postgres}.password_file"), "/etc/lifeboat/password", FileKind::Secret, 19),
            (&format!("{postgres}.root_cert_file"), "/etc/lifeboat/ca.pem", FileKind::Readable, 20),
            ("instances.clinic.filestore.path", "/srv/odoo/filestore", FileKind::Directory, 23),
            ("instances.clinic.config.paths[0]", "/etc/odoo", FileKind::Any, 25),
            ("instances.clinic.config.paths[1]", "/srv/addons/", FileKind::Any, 25),
            ("instances.clinic.drill.addons[0]", "/srv/addons/custom", FileKind::Directory, 33),
            ("engine.state_dir", "/var/lib/lifeboat", FileKind::Created, 38),
        ]
    );
    let problem = config.files()[1].problem("no such file", "run `lifeboat init`");
    assert_eq!(
        problem.to_string(),
        "/etc/lifeboat/lifeboat.toml:6: keys.host_identity_file: no such file; run `lifeboat init`"
    );
}

#[test]
fn the_starter_file_parses() {
    let recipient = |text: &str| text.to_owned();
    let mut values = StarterValues {
        tenant: "acme".parse().unwrap(),
        repository: "/srv/\"odd\" folder\\".into(),
        recovery_recipients: vec![recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")],
        host_identity_file: "keys/host.age".into(),
        signing_key_file: "keys/signing".into(),
        trusted_key: crate::signature::SigningKey::from_seed(&[1; 32]).public(),
        instance: "odoo".parse().unwrap(),
        state_dir: None,
    };
    let (config, warnings) = parse(&starter(&values), Path::new(FILE)).unwrap();
    assert_eq!(warnings.len(), 1, "only that there is one recipient: {warnings:?}");
    assert_eq!(config.repository, RepositoryConfig::Local { path: values.repository.clone().into() });
    assert_eq!(config.keys.trusted_keys, [values.trusted_key]);
    assert!(config.instance("odoo").is_ok());
    values.recovery_recipients.push(recipient("age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"));
    values.state_dir = Some("state".into());
    let (config, warnings) = parse(&starter(&values), Path::new(FILE)).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.engine.state_dir, Path::new("/etc/lifeboat/state"));
}

/// What the starter file offers as comments is right as well.
#[test]
fn the_starter_files_comments_parse_when_uncommented() {
    let values = StarterValues {
        tenant: "acme".parse().unwrap(),
        repository: "/srv/lifeboat".into(),
        recovery_recipients: vec!["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p".into()],
        host_identity_file: "keys/host.age".into(),
        signing_key_file: "keys/signing".into(),
        trusted_key: crate::signature::SigningKey::from_seed(&[1; 32]).public(),
        instance: "odoo".parse().unwrap(),
        state_dir: None,
    };
    let is_setting =
        |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let uncommented: String = starter(&values)
        .lines()
        .filter(|line| !line.starts_with("path = \"/srv/lifeboat\""))
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if is_setting(setting) => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let (config, _) =
        parse(&uncommented, Path::new(FILE)).unwrap_or_else(|found| panic!("{uncommented}{:#?}", shown(&found)));
    assert!(matches!(config.repository, RepositoryConfig::S3(_)));
    let (_, odoo) = config.instance("odoo").unwrap();
    assert_eq!(odoo.config.as_ref().unwrap().commands[0].name, "containers.json");
    assert!(odoo.postgres.root_cert_file.is_some() && !odoo.drill.required.is_empty() && odoo.owner.is_some());
}

#[test]
fn wal_and_witness_have_limits() {
    let with = |section: &str| {
        let text = GOOD.replace("[instances.clinic.filestore]", &format!("{section}\n[instances.clinic.filestore]"));
        assert_ne!(text, GOOD);
        text
    };
    let section = "[instances.clinic.postgres.wal]\nslot = \"dr_1\"\nmax_lag = \"500ms\"\nheartbeat = \"off\"\n\
                   [instances.clinic.postgres.witness]\nparallel = 2\nduty_cycle = 25\nsample_above = \"1 GiB\"\n\
                   standby = { host = \"standby\" }";
    let (config, _) = parse(&with(section), Path::new("/etc/lifeboat/lifeboat.toml")).unwrap();
    let (name, clinic) = config.instance("clinic").unwrap();
    let (wal, witness) = (&clinic.postgres.wal, &clinic.postgres.witness);
    assert_eq!((wal.slot_name(name), wal.max_lag.0.as_millis(), wal.heartbeat), ("dr_1".to_owned(), 500, None));
    assert_eq!((witness.parallel, witness.duty_cycle, witness.sample_above.map(|size| size.0)), (2, 25, Some(1 << 30)));
    assert_eq!(witness.standby, Some(StandbyConfig { host: "standby".into(), port: 5432 }));
    for (section, wrong) in [
        ("[instances.clinic.postgres.wal]\nslot = \"DR\"", "not the name of a replication slot"),
        ("[instances.clinic.postgres.wal]\nmax_lag = \"1ms\"", "is out of range"),
        ("[instances.clinic.postgres.wal]\nheartbeat = \"never\"", "is not a time span"),
        ("[instances.clinic.postgres.witness]\nduty_cycle = 0", "duty_cycle"),
        ("[instances.clinic.postgres.witness.standby]\nport = 1", "host"),
    ] {
        let problems = parse(&with(section), Path::new("/etc/lifeboat/lifeboat.toml")).unwrap_err();
        assert!(problems.iter().any(|problem| problem.to_string().contains(wrong)), "{section}: {problems:?}");
    }
    assert_eq!(WalConfig::default().slot_name(&"north-wing".parse().unwrap()), "lifeboat_north_wing");
}

#[test]
fn limits_of_the_line() {
    assert_eq!(good().limits, LimitsConfig::default());
    let engine = "[engine]\n";
    let with = |section: &str| changed(&[(engine, &format!("[limits]\n{section}[engine]\n"))]);
    let limits = |section: &str| parse(&with(section), Path::new(FILE)).unwrap().0.limits;
    let both = limits("upload = \"50 MiB/s\"\ndownload = \"1 Gbit/s\"\n");
    assert_eq!((both.upload.unwrap().bytes(), both.download.unwrap().bytes()), (50 << 20, 125_000_000));
    let given = limits("upload = \"20 MiB/s\"\n");
    assert_eq!(both.and(given), LimitsConfig { upload: given.upload, download: both.download }, "the lower of both");
    assert_eq!(given.and(both), both.and(given));
    for (section, says) in [
        ("upload = \"50 MB\"\n", "F:38: limits.upload: \"50 MB\" is not a rate"),
        ("upload = 50\n", "F:38: limits.upload: expected a rate in quotes"),
        ("download = \"1 KiB/s\"\n", "F:38: limits.download: is out of range; use \"64 KiB/s\" to \"100 GiB/s\""),
        ("uplaod = \"50 MiB/s\"\n", "did you mean"),
    ] {
        let found = findings(&with(section)).join("\n");
        assert!(found.contains(says), "{section}: {found}");
    }
}
