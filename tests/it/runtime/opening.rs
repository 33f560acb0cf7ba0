//! From a file to a component at work, or to a reason why not.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use frond::config;
use frond::runtime::{Host, OpenError, Outcome, Processor, Restored};

use super::{
    PATIENCE, compiler, component, count, float, guest, open, process, process_with, recording, shared_cache,
    values,
};

/// A compiler that cannot be run, for when nothing may be compiled.
fn no_compiler() -> &'static Path {
    Path::new("/nowhere/frond")
}

#[test]
fn check_opens_every_component_and_says_which_cannot_be() {
    // Goal: nobody learns from a running plant that a component's options are wrong. Method: the program's own check, with a
    // right option, a wrong one, and without opening.
    let dir = tempfile::tempdir().unwrap();
    let check = |option: &str, more: &[&str]| {
        let stream = "[[stream]]\nname = \"s\"\ntopics = [\"t\"]\ncomponent = \"limits\"\n";
        let path = guest("limits");
        let text = format!(
            "gateway.name = \"g\"\nlattice.mode = \"off\"\n{stream}[[component]]\nname = \"limits\"\npath = {path:?}\nconfig = {{ {option} = \"*: 1\" }}\n"
        );
        fs::write(dir.path().join("frond.toml"), text).unwrap();
        let file = dir.path().join("frond.toml");
        let output =
            Command::new(compiler()).arg("check").arg("--config").arg(&file).args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = check("high", &[]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = check("hihg", &[]);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("component \"limits\" cannot be opened") && said.contains("known are calibrate"),
        "{said}"
    );
    assert!(said.contains("refused: 1 problem\n"), "{said}");
    assert_eq!(check("hihg", &["--skip-components"]).0, Some(0));
}

#[test]
fn a_component_that_cannot_be_used_is_refused_with_the_reason() {
    // Goal: whoever configured it learns what to change. Method: one component of each kind of uselessness.
    let host = Host::new().unwrap();
    let refused = |component: &config::Component| {
        let error = Processor::open(&host, component, compiler(), &shared_cache()).unwrap_err();
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    };
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        config::Component { path, ..component("misbehave", &[]) }
    };
    let whole = fs::read(guest("misbehave")).unwrap();

    for (component, said) in [
        (component("ungranted", &[]), "imports test:ungranted/door, which is not granted"),
        (component("misbehave", &[("mode", "refuse")]), "refuses its configuration: option \"mode\" is"),
        (component("misbehave", &[("mode", "trap-in-configure")]), "does not start: trap"),
        (component("limits", &[("hihg", "*: 1")]), "\"hihg\" is not known"),
        (config::Component { memory_bytes_max: 64 << 10, ..component("limits", &[]) }, "more memory than"),
        (config::Component { path: dir.path().join("none"), ..component("limits", &[]) }, "cannot read"),
        (file("empty", b"\0asm\x0d\0\x01\0"), "does not fit the contract"),
        (file("core", b"\0asm\x01\0\0\0"), "does not compile"),
        (file("text", b"not wasm at all"), "does not compile"),
        (file("cut", &whole[..whole.len() / 2]), "does not compile"),
    ] {
        let reason = refused(&component);
        assert!(reason.contains(said), "{reason:?} does not say {said:?}");
    }
    let large = file("large", b"");
    fs::File::options().write(true).open(&large.path).unwrap().set_len(100 << 20).unwrap();
    assert!(refused(&large).contains("more than the 33554432"));
    let missing = Processor::open(&host, &file("new", &[]), no_compiler(), dir.path());
    assert!(matches!(missing, Err(OpenError::Compile { .. })), "{missing:?}");
}

#[test]
fn a_compiled_component_is_kept_checked_and_may_be_deleted() {
    // Goal: the second start compiles nothing; a flipped bit is noticed wherever it is; deletion costs a compilation and
    // nothing else, even while the file is mapped. Method: a cache of its own, and a compiler that cannot run.
    let host = Host::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let limits = component("limits", &[("high", "*: 50")]);
    let open = |compiler: &Path| Processor::open(&host, &limits, compiler, dir.path());
    let files = |extension: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir.path().join("components")).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().unwrap() == extension)
            .collect()
    };
    let works =
        |processor: &mut Processor| assert_eq!(process(processor, 0, &[float(1, 1, 60.0)]).alarms.len(), 1);

    let mut first = open(compiler()).unwrap();
    assert_eq!(count(&first, |c| &c.compilations), 1);
    works(&mut first);
    works(&mut open(no_compiler()).unwrap());
    assert_eq!((files("cwasm").len(), files("sha256").len(), files("tmp").len()), (1, 1, 0));

    let cwasm = files("cwasm").remove(0);
    let sound = fs::read(&cwasm).unwrap();
    for at in [0, sound.len() / 2, sound.len() - 1] {
        // Not in place: the file is mapped.
        let mut flipped = sound.clone();
        flipped[at] ^= 4;
        fs::remove_file(&cwasm).unwrap();
        fs::write(&cwasm, flipped).unwrap();
        let mut again = open(compiler()).unwrap();
        let counted = (count(&again, |c| &c.cache_rejected), count(&again, |c| &c.compilations));
        assert_eq!(counted, (1, 1), "byte {at}");
        works(&mut again);
        works(&mut open(no_compiler()).unwrap());
    }
    fs::remove_file(files("sha256").remove(0)).unwrap();
    assert_eq!(count(&open(compiler()).unwrap(), |c| &c.cache_rejected), 1);

    fs::remove_dir_all(dir.path().join("components")).unwrap();
    assert_eq!(process(&mut first, 0, &[float(1, 2, 10.0)]).alarms.len(), 1);
    assert!(matches!(open(no_compiler()), Err(OpenError::Compile { .. })));
    works(&mut open(compiler()).unwrap());

    fs::set_permissions(dir.path().join("components"), fs::Permissions::from_mode(0o770)).unwrap();
    assert!(matches!(open(compiler()), Err(OpenError::Artifact { .. })));
}

#[test]
fn the_compiler_confines_itself() {
    // Goal: whoever starts it, the compiler has limits before it looks at the component; a process that runs out of them
    // fails and leaves nothing that could be loaded. Method: hold its input back and read its limits; then so little memory
    // that not even the program fits.
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.cwasm");
    let mut child = Command::new(compiler())
        .args([Path::new("compile"), Path::new("/dev/stdin"), &out])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let limits = loop {
        let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
        if limits.contains("1073741824") || started.elapsed() > PATIENCE {
            break limits;
        }
        std::thread::yield_now();
    };
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max address space"), "1073741824");
    let mut input = child.stdin.take().unwrap();
    input.write_all(&fs::read(guest("limits")).unwrap()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    assert!(out.exists());

    let starved = Command::new("sh")
        .args(["-c", "ulimit -v 16384 && exec \"$@\"", "sh"])
        .arg(compiler())
        .args([Path::new("compile"), &guest("limits"), &dir.path().join("none.cwasm")])
        .output()
        .unwrap();
    assert!(!starved.status.success(), "{starved:?}");
    assert!(!dir.path().join("none.cwasm").exists());
}

#[test]
fn a_component_built_for_the_first_version_of_the_contract_keeps_working() {
    // Goal: the contract grows, and nobody has to build anew. Method: a guest made from a copy of version 0.1.0, with all
    // that this had: options, series, a log line, readings, alarms, state.
    let host = Host::new().unwrap();
    let mut guest = open(&host, "elder", &[]);
    assert!(!guest.has_timer());
    let (mut registrar, asked) = recording();
    let done = process_with(&mut registrar, &mut guest, 0, &[float(1, 1, 5.0), float(1, 2, 666.0)]);
    assert_eq!((done.outcome, values(&done)), (Outcome::Processed, vec![6.0, 667.0, 1.0]));
    assert_eq!(*asked.lock().unwrap(), [("of-an-elder".to_owned(), "K".to_owned())]);
    assert_eq!((done.alarms.len(), done.alarms[0].name.as_str()), (1, "high"));
    assert_eq!(count(&guest, |c| &c.log_lines), 1);
    let snapshot = guest.snapshot().unwrap();
    let mut again = open(&host, "elder", &[]);
    assert_eq!(again.restore_from(snapshot), Restored::Taken);
    assert_eq!(values(&process(&mut again, 0, &[float(1, 3, -1.0)])), [4.0]);
    let refused = Processor::open(&host, &component("elder", &[("refuse", "")]), compiler(), &shared_cache());
    assert!(matches!(refused, Err(OpenError::Options { reason, .. }) if reason == "as it was told"));
}
