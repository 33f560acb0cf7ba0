//! How files are found, read and merged.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::load::inspect_in;
use super::{Surroundings, here};
use crate::config::{LatticeMode, MainFile, Paths, Reduce, load, load_file};

/// A folder with a main file and additions.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for the test");
    std::fs::create_dir(folder.path().join("conf.d")).expect("a folder of the test's own");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a folder of the test's own");
    }
    folder
}

fn messages(folder: &Path, surroundings: &Surroundings) -> (Vec<String>, Vec<String>) {
    let shorten = |text: String| text.replace(&format!("{}/", folder.display()), "");
    let inspection = inspect_in(&Paths::beside(&folder.join("frond.toml")), surroundings);
    let problems = inspection.problems.iter().map(|p| shorten(p.to_string())).collect();
    (problems, inspection.warnings.iter().map(|w| shorten(w.to_string())).collect())
}

#[test]
fn later_files_win_key_by_key() {
    // Goal: an addition changes what it says and nothing else. Method: three files that set overlapping keys.
    let folder = folder(&[
        ("frond.toml", "gateway.name = \"a\"\n[journal]\ncommit_interval = \"2s\"\ncommit_readings_max = 10"),
        ("conf.d/20-b.toml", "gateway.name = \"b\""),
        ("conf.d/10-c.toml", "gateway.name = \"c\"\njournal.commit_interval = \"3s\""),
    ]);
    let config = load_file(&folder.path().join("frond.toml")).expect("valid");
    assert_eq!(config.gateway.name, "b");
    assert_eq!(config.journal.commit_interval, Duration::from_secs(3));
    assert_eq!(config.journal.commit_readings_max, 10);
    assert_eq!(
        config.journal.commit_interval_max,
        Duration::from_secs(10),
        "the default is below all of them"
    );
}

#[test]
fn streams_and_components_are_merged_by_name() {
    // Goal: an addition adds streams and adjusts known ones. Method: both, and the order that results.
    let folder = folder(&[
        (
            "frond.toml",
            "gateway.name = \"g\"\n[[stream]]\nname = \"a\"\ntopics = [\"a\", \"a2\"]\nunit = \"V\"\n\
             labels = { x = \"1\" }\nreduce = { window = \"10s\", lateness = \"1s\" }\n\
             [[stream]]\nname = \"b\"\ntopics = [\"b\"]\n[[component]]\nname = \"k\"\npath = \"k.wasm\"\n",
        ),
        (
            "conf.d/site.toml",
            "[[stream]]\nname = \"c\"\ntopics = [\"c\"]\n[[stream]]\nname = \"a\"\ntopics = [\"a3\"]\nlabels = { y = \"2\" }\n\
             reduce = { window = \"20s\" }\ncomponent = \"k\"\n[[component]]\nname = \"k\"\ndeadline = \"1s\"\n",
        ),
    ]);
    let config = load_file(&folder.path().join("frond.toml")).expect("valid");
    let names: Vec<_> = config.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"], "known ones stay in their place, new ones come behind");
    let a = &config.streams[0];
    assert_eq!(a.topics, ["a3"], "a list is replaced as a whole");
    assert_eq!(a.unit, "V", "what is not said again stays");
    assert_eq!(a.labels.len(), 2, "tables are merged");
    let reduce = Reduce::Window { length: Duration::from_secs(20), lateness: Duration::from_secs(1) };
    assert_eq!(a.reduce, reduce);
    assert_eq!(config.components[0].deadline, Duration::from_secs(1));
    assert_eq!(config.components[0].path, folder.path().join("k.wasm"), "relative to the file that says it");
}

#[test]
fn a_problem_is_put_down_to_the_file_that_says_it() {
    // Goal: the right file is opened. Method: problems in three files, one of them a key that is missing.
    let folder = folder(&[
        ("frond.toml", "gateway.name = \"g\"\n[[stream]]\nname = \"a\"\nqos = 7\n"),
        ("conf.d/1.toml", "[[stream]]\nname = \"a\"\nlane = \"fast\"\n"),
        ("conf.d/2.toml", "\nclok.trust = \"auto\"\n[[stream]]\nname = \"b\"\ntopics = [\"b\"]\nqos = 9"),
    ]);
    let (problems, _) = messages(folder.path(), &here());
    assert_eq!(
        problems,
        [
            "frond.toml:2: stream \"a\": needs topics = [\"…\"], at least one topic filter",
            "frond.toml:4: stream \"a\": qos: 7 is outside 0 to 1",
            "conf.d/1.toml:3: stream \"a\": lane: unknown word 'fast'; known are alarm, data",
            "conf.d/2.toml:2: unknown key 'clok'; did you mean 'clock'?",
            "conf.d/2.toml:6: stream \"b\": qos: 9 is outside 0 to 1",
        ]
    );
}

#[test]
fn only_toml_files_of_conf_d_are_read_in_the_order_of_their_names() {
    // Goal: what editors and packages leave behind does not count. Method: such files, with contents that would fail.
    let folder = folder(&[
        ("frond.toml", "gateway.name = \"g\""),
        ("conf.d/b.toml", ""),
        ("conf.d/a.toml", ""),
        ("conf.d/a.toml~", "nonsense"),
        ("conf.d/a.toml.dpkg-old", "nonsense"),
        ("conf.d/.a.toml", "nonsense"),
    ]);
    let inspection = inspect_in(&Paths::beside(&folder.path().join("frond.toml")), &here());
    let names = ["frond.toml", "conf.d/a.toml", "conf.d/b.toml"];
    assert_eq!(inspection.files, names.map(|name| folder.path().join(name)));
    assert_eq!(inspection.problems, []);
}

#[test]
fn a_named_file_must_be_there_and_the_usual_one_need_not() {
    // Goal: a slip on the command line is no silent default. Method: the same missing file, named and not.
    let folder = folder(&[("conf.d/a.toml", "gateway.name = \"g\"")]);
    let missing = folder.path().join("frond.toml");
    let error = load_file(&missing).expect_err("it is not there");
    let expected = format!("{}: the file cannot be read: there is no such file", missing.display());
    assert_eq!(error.to_string(), expected);
    let usual = Paths { main: MainFile::IfPresent(missing), conf_dir: folder.path().join("conf.d") };
    assert_eq!(load(&usual).expect("conf.d alone will do").gateway.name, "g");
    let nothing =
        Paths { main: MainFile::IfPresent("/nonexistent/a".into()), conf_dir: "/nonexistent/b".into() };
    let LatticeMode::Leaf(_) = load(&nothing).expect("the default alone will do").lattice.mode else {
        panic!("the default has a leaf")
    };
}

#[test]
fn files_that_cannot_be_read_are_reported_with_the_rest() {
    // Goal: no file is skipped in silence, none fills the memory. Method: no text, too large, a folder.
    let folder = folder(&[("frond.toml", "gateway.name = \"g\"\nx = 1")]);
    std::fs::write(folder.path().join("conf.d/1.toml"), [b'a', 0xff]).expect("a folder of the test's own");
    std::fs::write(folder.path().join("conf.d/2.toml"), vec![b'#'; 1_048_577])
        .expect("a folder of the test's own");
    std::fs::create_dir(folder.path().join("conf.d/3.toml")).expect("a folder of the test's own");
    let (problems, _) = messages(folder.path(), &here());
    assert_eq!(
        problems,
        [
            "conf.d/1.toml: the file is not UTF-8 text",
            "conf.d/2.toml: the file is larger than 1048576 bytes",
            "conf.d/3.toml: the file cannot be read: is a directory",
            "frond.toml:2: unknown key 'x'; known are gateway, clock, mqtt, lattice, journal, outbox, uplink, listener, user, \
             slot, artifacts, registry, signer, secret, device, component, stream",
        ]
    );
}

#[test]
fn relative_secrets_are_looked_up_among_the_credentials() {
    // Goal: systemd credentials need no path. Method: a credentials folder with and without the file, and none at all: then
    // the file is beside the configuration, wherever the program is started, or not known.
    let text = "gateway.name = \"g\"\n[mqtt.broker]\nurl = \"mqtt://localhost\"\nusername = \"u\"\npassword_file = \"pw\"\n\
                [lattice]\nmode = \"off\"";
    let folder = folder(&[("frond.toml", text)]);
    let credentials = folder.path().join("credentials");
    std::fs::create_dir(&credentials).expect("a folder of the test's own");
    let there = Surroundings { credentials_dir: Some(credentials.clone()), ..here() };
    let warning =
        "frond.toml:5: mqtt.broker.password_file: 'credentials/pw' cannot be read: there is no such file";
    assert_eq!(messages(folder.path(), &there), (vec![], vec![warning.to_owned()]));

    let secret = credentials.join("pw");
    std::fs::write(&secret, "").expect("a folder of the test's own");
    let warning = "frond.toml:5: mqtt.broker.password_file: 'credentials/pw' is empty";
    assert_eq!(messages(folder.path(), &there), (vec![], vec![warning.to_owned()]));

    std::fs::write(&secret, "secret").expect("a folder of the test's own");
    set_mode(&secret, 0o644);
    let warning = "frond.toml:5: mqtt.broker.password_file: 'credentials/pw' can be read by every user of this machine; \
                   chmod o-rwx it";
    assert_eq!(messages(folder.path(), &there), (vec![], vec![warning.to_owned()]));

    set_mode(&secret, 0o600);
    assert_eq!(messages(folder.path(), &there), (vec![], vec![]));
    let main = Paths::beside(&folder.path().join("frond.toml"));
    let broker = inspect_in(&main, &there).config.expect("valid").broker.expect("it has a URL");
    assert_eq!(broker.password_file, Some(secret));

    let warning = "frond.toml:5: mqtt.broker.password_file: 'pw' does not exist, and the service's credentials are not known \
                   here: not checked";
    assert_eq!(messages(folder.path(), &here()), (vec![], vec![warning.to_owned()]));
    let beside = folder.path().join("pw");
    std::fs::write(&beside, "secret").expect("a folder of the test's own");
    set_mode(&beside, 0o600);
    assert_eq!(messages(folder.path(), &here()), (vec![], vec![]));
    let broker = inspect_in(&main, &here()).config.expect("valid").broker.expect("it has a URL");
    assert_eq!(broker.password_file, Some(beside));
}

#[test]
fn files_of_a_mode_that_is_not_selected_are_not_looked_for() {
    // Goal: a warning is about something that matters. Method: the same missing file in either mode.
    let text = |mode| {
        format!(
            "gateway.name = \"g\"\nlattice.mode = \"{mode}\"\n[lattice.leaf]\nhub = \"tls://h\"\nca = \"/none/ca\""
        )
    };
    let warnings = |mode| messages(folder(&[("frond.toml", &text(mode))]).path(), &here()).1;
    assert_eq!(
        warnings("leaf"),
        ["frond.toml:5: lattice.leaf.ca: '/none/ca' cannot be read: there is no such file"]
    );
    assert_eq!(
        warnings("off"),
        ["frond.toml:4: lattice.leaf.hub: is not used while lattice.mode is \"off\""]
    );
}

#[test]
fn a_file_without_a_folder_is_beside_conf_d() {
    // Goal: `--config frond.toml` works in the folder itself. Method: the paths that come out.
    let paths = Paths::beside(Path::new("frond.toml"));
    assert_eq!(paths.conf_dir, PathBuf::from("conf.d"));
    assert_eq!(Paths::system().conf_dir, PathBuf::from("/etc/frond/conf.d"));
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the test's own file");
}
