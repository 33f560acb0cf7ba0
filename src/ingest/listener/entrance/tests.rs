use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::*;
use crate::config::{Anonymous, parse};

const SOON: Duration = Duration::from_secs(20);

fn site(folder: &Path, users: &[&str]) -> Site {
    let text: String = users
        .iter()
        .map(|name| {
            let file = folder.join(name);
            format!(
                "[[user]]\nname = \"{name}\"\npassword_hash_file = \"{}\"\npublish = [\"#\"]\n",
                file.display()
            )
        })
        .collect();
    parse(&text, "frond.toml").unwrap().site
}

fn write_hash(folder: &Path, user: &str, passwords: &[&str]) {
    let lines: Vec<_> =
        passwords.iter().map(|password| Hash::of(password.as_bytes()).unwrap().as_str().to_owned()).collect();
    let file = folder.join("new");
    std::fs::write(&file, format!("# {user}\n{}\n", lines.join("\n"))).unwrap();
    std::fs::rename(file, folder.join(user)).unwrap();
}

fn credentials(name: Option<&str>, password: &str) -> Credentials {
    Credentials {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        anonymous: Anonymous::Loopback,
        client: "c".to_owned(),
        name: name.map(str::to_owned),
        password: Some(password.into()),
        certificate: Vec::new(),
    }
}

struct Running {
    handle: EntranceHandle,
    stop: CancellationToken,
    task: tokio::task::JoinSet<()>,
    thread: std::thread::JoinHandle<Result<(), Infallible>>,
}

fn start(site: &Site) -> Running {
    let (entrance, verifier, handle) = Entrance::new(site);
    let stop = CancellationToken::new();
    let mut task = tokio::task::JoinSet::new();
    let stopped = stop.clone();
    task.spawn(async move { entrance.run(stopped).await.unwrap_or_else(|never| match never {}) });
    Running { handle, stop, task, thread: std::thread::spawn(|| verifier.run()) }
}

impl Running {
    async fn stop(mut self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.task.join_next()).await.unwrap();
        self.thread.join().unwrap().unwrap();
    }
}

#[tokio::test]
async fn clients_are_let_in_and_counted() {
    // Goal: every way in and out, with its counter. Method: each once, over the task and its thread.
    let folder = tempfile::tempdir().unwrap();
    write_hash(folder.path(), "press", &["secret"]);
    let running = start(&site(folder.path(), &["press", "no-file"]));
    let enter = |name, password| running.handle.enter(credentials(name, password));
    assert_eq!(enter(Some("press"), "secret").await.unwrap().user.as_deref(), Some("press"));
    assert_eq!(enter(Some("press"), "secret").await.unwrap().user.as_deref(), Some("press"));
    assert_eq!(enter(Some("press"), "wrong").await, Err(Refusal::Proof));
    assert_eq!(enter(Some("no-file"), "wrong").await, Err(Refusal::Proof));
    assert_eq!(enter(None, "").await.unwrap().user, None);
    let never = Credentials { anonymous: Anonymous::Never, ..credentials(None, "") };
    assert_eq!(running.handle.enter(never).await, Err(Refusal::Anonymous));
    let expected =
        Logins { granted: 2, anonymous: 1, checked: 3, failed: 2, turned_away: 1, ..Logins::default() };
    assert_eq!(running.handle.logins(), expected);
    running.stop().await;
}

#[tokio::test]
async fn a_flood_of_guesses_is_bounded_and_delays_nobody_who_was_proven() {
    // Goal: what waits is bounded, and who needs no check passes by. Method: 500 guesses at once from as many addresses,
    // then a proven user and an anonymous client while they wait.
    let folder = tempfile::tempdir().unwrap();
    write_hash(folder.path(), "press", &["secret"]);
    let running = start(&site(folder.path(), &["press"]));
    running.handle.enter(credentials(Some("press"), "secret")).await.unwrap();
    let mut guesses = tokio::task::JoinSet::new();
    for n in 0..500u32 {
        let handle = running.handle.clone();
        let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + (n << 8)));
        let guess = Credentials { address, ..credentials(Some("press"), "guess") };
        guesses.spawn(async move { handle.enter(guess).await });
    }
    while running.handle.logins().busy == 0 {
        tokio::task::yield_now().await;
    }
    running.handle.enter(credentials(Some("press"), "secret")).await.unwrap();
    running.handle.enter(credentials(None, "")).await.unwrap();
    let checked = running.handle.logins().checked;
    assert!(checked < 30, "they did not wait for the {checked} checks");
    while running.handle.logins().busy + running.handle.logins().checked < 400 {
        assert!(guesses.join_next().await.unwrap().unwrap().is_err());
    }
    drop(guesses);
    running.stop().await;
}

#[tokio::test]
async fn a_changed_file_is_read_and_a_broken_one_leaves_the_old() {
    // Goal: passwords change without a restart, and a slip locks nobody out. Method: the file replaced, broken, removed.
    let folder = tempfile::tempdir().unwrap();
    write_hash(folder.path(), "press", &["old"]);
    let (mut entrance, _verifier, _handle) = Entrance::new(&site(folder.path(), &["press"]));
    let enters = |entrance: &mut Entrance, password: &str| {
        let now = Instant::now();
        match entrance.users.admit(credentials(Some("press"), password), now) {
            Admission::Granted(_) => true,
            Admission::Check(check) => {
                let right = check.run();
                entrance.users.checked(check, right, now).is_ok()
            }
            Admission::Refused(refusal) => panic!("{refusal}"),
        }
    };
    assert!(enters(&mut entrance, "old") && !enters(&mut entrance, "new"));
    write_hash(folder.path(), "press", &["old", "new"]);
    entrance.look();
    assert!(enters(&mut entrance, "old") && enters(&mut entrance, "new"));
    std::fs::write(folder.path().join("press"), "plain password\n").unwrap();
    entrance.look();
    assert!(enters(&mut entrance, "new"));
    std::fs::remove_file(folder.path().join("press")).unwrap();
    entrance.look();
    assert!(enters(&mut entrance, "new"));
    write_hash(folder.path(), "press", &["newer"]);
    entrance.look();
    assert!(!enters(&mut entrance, "new") && enters(&mut entrance, "newer"));
}

#[test]
fn files_of_hashes_have_one_line_or_two() {
    // Goal: a file that is not what it should be is named. Method: each fault once.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    let hash = Hash::of(b"x").unwrap().as_str().to_owned();
    let read = |text: &[u8]| {
        std::fs::write(&file, text).unwrap();
        read_hashes(&file)
    };
    assert_eq!(read(format!("# comment\n\n  {hash}\n").as_bytes()).unwrap().len(), 1);
    assert_eq!(read(format!("{hash}\n{hash}").as_bytes()).unwrap().len(), 2);
    for text in [&b""[..], b"\xff\xfe", format!("{hash}\n").repeat(3).as_bytes()] {
        assert!(matches!(read(text), Err(HashFileError::Lines { .. })));
    }
    assert!(matches!(read(b"secret"), Err(HashFileError::Hash { source: HashError::Form, .. })));
    assert!(matches!(read(&[b'a'; 5000]), Err(HashFileError::Read { .. })));
    assert!(matches!(read_hashes(Path::new("/nowhere")), Err(HashFileError::Read { .. })));
}
