//! `notify test`: what it sends is seen by a small HTTP server in this process, and its secrets by nobody else.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::program::Program;

/// A request: path, `Lifeboat-Signature`, and body.
type Got = Arc<Mutex<Vec<(String, String, Value)>>>;

/// Answers every request with this status, and repeats what it was sent.
fn server(status: u16) -> (String, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (base, got) = (format!("http://{}", listener.local_addr().unwrap()), Got::default());
    let seen = Arc::clone(&got);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length, mut signature) = (String::new(), 0, String::new());
            reader.read_line(&mut line).unwrap();
            let path = line.split(' ').nth(1).unwrap().to_owned();
            loop {
                line.clear();
                reader.read_line(&mut line).unwrap();
                match line.trim().split_once(": ") {
                    Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                        length = value.parse().unwrap()
                    }
                    Some((name, value)) if name.eq_ignore_ascii_case("lifeboat-signature") => {
                        signature = value.to_owned()
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            seen.lock().unwrap().push((path, signature, serde_json::from_slice(&body).unwrap()));
            write!(stream, "HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    (base, got)
}

/// With channels of three kinds that go to these servers.
fn program(good: &str, chat: &str) -> Program {
    let program = Program::initialised();
    program.write(
        "daemon.toml",
        format!(
            "[notify.channels.hook]\nkind = \"webhook\"\nurl_file = \"hook\"\nsecret_file = \"hmac\"\n\
             [notify.channels.pager]\nkind = \"pagerduty\"\nurl = \"{good}/v2/enqueue\"\nrouting_key_file = \"routing\"\n\
             [notify.channels.chat]\nkind = \"slack\"\nurl_file = \"chat\"\n"
        ),
    );
    program.write("hook", format!("{good}/SECRET-hook\n"));
    program.write("hmac", "SECRET-hmac\n");
    program.write("routing", "SECRET-routing\n");
    program.write("chat", format!("{chat}/SECRET-chat\n"));
    program
}

#[test]
fn a_test_message_goes_over_every_channel_and_says_that_it_is_one() {
    let (base, got) = server(202);
    let program = program(&base, &base);
    let ended = program.run("notify test").expect(0);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines, ["hook: delivered", "pager: delivered", "chat: delivered"]);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(!said.contains("SECRET"), "{said}");

    let got = got.lock().unwrap().clone();
    let of = |path: &str| got.iter().find(|(asked, ..)| asked == path).unwrap();
    let (_, signature, hook) = of("/SECRET-hook");
    assert!(signature.starts_with("v1=") && hook["test"] == true, "{signature} {hook}");
    let (_, _, page) = of("/v2/enqueue");
    assert_eq!(
        (page["routing_key"].as_str(), page["event_action"].as_str()),
        (Some("SECRET-routing"), Some("trigger"))
    );
    assert_eq!(page["payload"]["severity"], "info", "nobody is woken by a test: {page}");
    let (_, _, chat) = of("/SECRET-chat");
    for text in [&hook["subject"], &page["payload"]["summary"], &chat["text"]] {
        assert!(text.as_str().unwrap().contains("this is a test: nothing is wrong"), "{text}");
    }
    assert_eq!(got.len(), 3, "once each");
}

#[test]
fn what_did_not_get_there_is_told_with_its_reason_and_without_secrets() {
    let ((base, _), (no, _)) = (server(202), server(403));
    let program = program(&base, &no);
    let ended = program.run("notify test --json").expect(10);
    let answer = ended.json();
    let channels = answer["channels"].as_array().unwrap();
    let delivered: Vec<_> = channels.iter().map(|channel| channel["delivered"].as_bool().unwrap()).collect();
    assert_eq!(delivered, [true, true, false], "{answer}");
    assert!(channels[2]["problem"].as_str().unwrap().contains("the answer was 403"), "{answer}");
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(!said.contains("SECRET"), "{said}");
    // One channel alone, and one that is not there.
    program.run("notify test pager").expect(0);
    let unknown = program.run("notify test pagr").expect(6);
    assert!(unknown.stderr.contains("there is no channel"), "{}", unknown.stderr);
}
