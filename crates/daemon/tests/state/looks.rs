//! Looks at what does not answer: they hold up nobody else's.

use std::{
    fs,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lifeboat_daemon::{
    Daemon, Scope, look,
    view::{self, Trouble},
};
use lifeboat_model::id::Instance;
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use crate::{clinic, tenant, world::World};

/// The instance's PostgreSQL takes connections and says nothing.
fn silence(world: &World) -> TcpListener {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("port = {}\n", server.local_addr().unwrap().port());
    change(world, |config| config.replace("port = 1\n", &port));
    server
}

fn change(world: &World, change: impl FnOnce(&str) -> String) {
    let path = world.folder.path().join("lifeboat.toml");
    let config = fs::read_to_string(&path).unwrap();
    let changed = change(&config);
    assert_ne!(changed, config);
    fs::write(path, changed).unwrap();
}

fn lacks(daemon: &Daemon, of: &str) -> bool {
    daemon.troubles.all().iter().any(|trouble| trouble.of == of)
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(30), "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_does_not_answer_is_told_before_what_says_nothing_is_given_up() {
    let world = World::new().await;
    let _server = silence(&world);
    let drill = "[schedule.drill]\ndo = \"drill\"\ntiers = [\"gold\"]\ncron = \"@daily\"\n";
    fs::write(world.folder.path().join("schedules/drill.toml"), drill).unwrap();
    let nothing = format!("unix://{}", world.folder.path().join("docker.sock").display());
    let daemon = Arc::new(world.daemon_with("state", |surroundings| {
        surroundings.environment = Arc::new(move |name| (name == "DOCKER_HOST").then(|| nothing.clone()));
    }));
    let cancel = CancellationToken::new();
    let looks = tokio::spawn(look::run(Arc::clone(&daemon), cancel.clone()));
    until("Docker's absence to be told", || lacks(&daemon, "docker")).await;
    assert!(!lacks(&daemon, "postgres clinic"), "it was told when the silent one was: {:?}", daemon.troubles.all());
    cancel.cancel();
    looks.await.unwrap();
}

#[tokio::test]
async fn an_instance_whose_look_fails_itself_is_looked_at_again_while_others_are() {
    let world = World::new().await;
    let _server = silence(&world);
    let (bakery, password) = ("bakery".parse::<Instance>().unwrap(), "user = \"lifeboat\"\n");
    change(&world, |config| {
        let (before, clinic) = config.split_once("[instances.clinic]").unwrap();
        let (clinic, after) = clinic.split_once("[engine]").unwrap();
        let bakery = clinic.replace("instances.clinic", "instances.bakery");
        let clinic = clinic.replace(password, &format!("{password}password_env = \"CLINIC\"\n"));
        format!("{before}[instances.bakery]{bakery}[instances.clinic]{clinic}[engine]{after}")
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    let daemon = Arc::new(world.daemon_with("state", |surroundings| {
        surroundings.environment = Arc::new(move |name| {
            if name == "CLINIC" {
                assert_ne!(seen.fetch_add(1, Ordering::SeqCst), 0, "broken on purpose");
            }
            None
        });
    }));
    let cancel = CancellationToken::new();
    let looks = tokio::spawn(look::run(Arc::clone(&daemon), cancel.clone()));
    until("the look to fail", || asked.load(Ordering::SeqCst) == 1).await;
    world.set(5 * 3600);
    until("the next one", || asked.load(Ordering::SeqCst) > 1).await;
    assert!(daemon.state.facts(&tenant(), &bakery).is_none(), "it waited for the other's end");
    until("what the other finds", || daemon.state.facts(&tenant(), &clinic()).is_some()).await;
    cancel.cancel();
    looks.await.unwrap();
}

#[tokio::test]
async fn a_dependency_that_does_not_answer_is_told_until_it_does_or_is_needed_no_more() {
    let world = World::new().await;
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let sign_in = format!(
        "[instances.clinic.dependencies.sign-in]\nkind = \"identity\"\naddress = \"http://127.0.0.1:{port}/x\"\n\
         note = \"IT service desk, 4711\"\n[instances.clinic.dependencies.fax]\nkind = \"other\"\naddress = \"the old one\"\n[engine]"
    );
    change(&world, |config| config.replace("[engine]", &sign_in));
    let daemon = Arc::new(world.daemon("state"));
    daemon.policies.send_modify(|policies| Arc::make_mut(policies).settings.probe_every = Duration::from_secs(1));
    let cancel = CancellationToken::new();
    let looks = tokio::spawn(look::run(Arc::clone(&daemon), cancel.clone()));
    let of = "dependency sign-in of clinic";
    until("its silence to be told", || lacks(&daemon, of)).await;
    let told = daemon.troubles.all().into_iter().find(|trouble| trouble.of == of).unwrap();
    assert_eq!((told.tenant.as_deref(), told.next.as_deref()), (Some("acme"), Some("IT service desk, 4711")));
    assert!(told.text.contains("refused"), "{}", told.text);
    let view = async || {
        let view = view::instance(&daemon, &Scope::all(), &tenant(), &clinic()).await.unwrap().unwrap();
        view.dependencies.into_iter().map(|one| (one.name, one.state, one.since, one.why)).collect::<Vec<_>>()
    };
    let (fax, seen) = (view().await.remove(0), view().await.remove(1));
    assert_eq!((fax.1.as_str(), fax.2), ("not-checked", None));
    assert!(fax.3.unwrap().contains("neither host:port nor a URL"));
    assert_eq!((seen.1.as_str(), seen.2), ("silent", Some(daemon.now())));

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    until("its answer", || !lacks(&daemon, of)).await;
    assert_eq!(view().await.remove(1).1, "answers");

    daemon.troubles.begin(Trouble { since: daemon.now(), ..told });
    daemon.policies.send_modify(|policies| {
        let site = Arc::make_mut(Arc::make_mut(policies).sites.get_mut(&tenant()).unwrap());
        site.config.instances.get_mut(&clinic()).unwrap().dependencies.clear();
    });
    until("it to be needed no more", || !lacks(&daemon, of)).await;
    cancel.cancel();
    looks.await.unwrap();
}
