use std::fs;
use std::future::Future;
use std::thread::{self, JoinHandle};

use super::*;

/// The thread, and somebody who asks it.
struct Rig {
    runtime: tokio::runtime::Runtime,
    handle: BlobsHandle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Rig {
    fn start(folder: &Path) -> Rig {
        let (blobs, handle) = Blobs::new(folder);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = Some(thread::spawn(move || blobs.run(stopped).unwrap()));
        Rig { runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(), handle, stop, thread }
    }

    fn desk(&self) -> Desk {
        self.handle.at(place())
    }

    fn on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn write(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), BlobError> {
        let desk = self.desk();
        self.on(async {
            let ticket = desk.begin().await?;
            for piece in bytes.chunks(5_000) {
                desk.append(Arc::clone(&ticket), Bytes::copy_from_slice(piece)).await?;
            }
            desk.finish(ticket, name.clone()).await
        })
    }

    fn read(&self, name: &ObjectName) -> Result<Bytes, BlobError> {
        let desk = self.desk();
        self.on(async {
            let held = desk.open(name.clone()).await?;
            desk.read(Arc::clone(&held), 0, held.bytes() as usize).await
        })
    }

    fn list(&self, container: &str) -> Vec<String> {
        self.on(self.desk().list(container, None, 1_000)).unwrap().0
    }

    fn usage(&self) -> Usage {
        self.on(self.desk().usage()).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn place() -> Place {
    Place { component: "Desk".into(), link: "default".into(), bytes_max: 10 * BLOCK_BYTES, objects_max: 5 }
}

fn name(container: &str, object: &str) -> ObjectName {
    ObjectName { container: container.into(), object: object.into() }
}

fn usage(blocks: u64, objects: u64) -> Usage {
    Usage { bytes: blocks * BLOCK_BYTES, objects }
}

/// The folder of the place.
fn shelf_of(folder: &Path) -> PathBuf {
    folder.join("blobs/+desk/default")
}

#[test]
fn objects_are_read_listed_moved_and_removed_and_their_room_with_them() {
    // Goal: what every call does, and what it leaves of the quota. Method: one of each, counted after every step.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path());
    let desk = rig.desk();
    let (a, b) = (name("x", "a"), name("y", "b"));
    assert_eq!(rig.write(&a, b"1"), Err(BlobError::NoContainer));
    for container in ["x", "y", "x"] {
        rig.on(desk.create_container(container)).unwrap();
    }
    assert_eq!(rig.usage(), usage(2, 2));
    rig.write(&a, &[7; 9_000]).unwrap();
    assert_eq!(rig.usage(), usage(5, 3));
    rig.write(&a, b"new").unwrap();
    assert_eq!((rig.usage(), &*rig.read(&a).unwrap()), (usage(3, 3), &b"new"[..]));
    let about = rig.on(desk.object(a.clone())).unwrap();
    assert_eq!(about.bytes, 3);
    assert!(about.created > 1_700_000_000, "{about:?}");
    assert!(rig.on(desk.container("x")).unwrap() > 1_700_000_000);
    rig.write(&b, b"old").unwrap();
    rig.on(desk.rename(a.clone(), b.clone())).unwrap();
    assert_eq!((rig.usage(), &*rig.read(&b).unwrap()), (usage(3, 3), &b"new"[..]));
    assert_eq!(rig.read(&a), Err(BlobError::NoObject));
    assert_eq!(rig.on(desk.rename(a.clone(), b.clone())), Err(BlobError::NoObject));
    rig.on(desk.rename(b.clone(), b.clone())).unwrap();
    rig.write(&name("y", "c"), b"").unwrap();
    assert_eq!((rig.list("x"), rig.list("y")), (vec![], vec!["b".to_owned(), "c".to_owned()]));
    rig.on(desk.delete("y", vec!["b".into(), "none".into()])).unwrap();
    assert_eq!((rig.usage(), rig.list("y")), (usage(3, 3), vec!["c".to_owned()]));
    rig.on(desk.delete_container("y")).unwrap();
    assert_eq!(rig.usage(), usage(1, 1));
    assert_eq!(rig.on(desk.delete_container("y")), Err(BlobError::NoContainer));
    assert!(!shelf_of(folder.path()).join("y").exists());
}

#[test]
fn names_are_listed_in_pages_to_the_last() {
    // Goal: every name once, in order, also when names are added or removed meanwhile. Method: pages of two out of four.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path());
    rig.on(rig.desk().create_container("x")).unwrap();
    for object in ["a", "b", "c", "d"] {
        rig.write(&name("x", object), b"").unwrap();
    }
    let desk = rig.desk();
    let page = |after: Option<&str>| rig.on(desk.list("x", after.map(str::to_owned), 2)).unwrap();
    assert_eq!(page(None), (vec!["a".into(), "b".into()], false));
    rig.on(desk.delete("x", vec!["b".into()])).unwrap();
    assert_eq!(page(Some("b")), (vec!["c".into(), "d".into()], true));
    assert_eq!(page(Some("d")), (vec![], true));
    assert_eq!(rig.on(desk.list("x", None, 0)), Ok((vec![], false)));
}

#[test]
fn a_quota_refuses_what_is_more_and_counts_what_is_being_written_and_read() {
    // Goal: the folder never takes more than it may. Method: to the last block; an object that is replaced and removed
    // while somebody reads it; writings that are given up.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path());
    let (desk, a) = (rig.desk(), name("x", "a"));
    rig.on(desk.create_container("x")).unwrap();
    let bytes = BlobError::Bytes { bytes_max: 10 * BLOCK_BYTES };
    assert_eq!(rig.write(&a, &[0; 9 * BLOCK_BYTES as usize + 1]), Err(bytes.clone()));
    assert_eq!(rig.usage(), usage(1, 1), "what was given up is gone");
    rig.write(&a, &[1; 9 * BLOCK_BYTES as usize]).unwrap();
    assert_eq!(rig.write(&a, b"1"), Err(bytes.clone()), "the old one is there until the new one is");

    let held = rig.on(desk.open(a.clone())).unwrap();
    rig.on(desk.delete("x", vec!["a".into()])).unwrap();
    assert_eq!((rig.usage(), rig.list("x")), (usage(10, 1), vec![]), "its blocks are still taken");
    assert_eq!(rig.write(&a, b"1"), Err(bytes));
    assert_eq!(rig.on(desk.read(Arc::clone(&held), 9 * BLOCK_BYTES - 2, 2)), Ok(Bytes::from_static(&[1, 1])));
    drop(held);
    assert_eq!(rig.usage(), usage(1, 1));

    for n in 0..4 {
        rig.write(&name("x", &n.to_string()), b"").unwrap();
    }
    let objects = BlobError::Objects { objects_max: 5 };
    assert_eq!(rig.write(&a, b""), Err(objects.clone()));
    assert_eq!(rig.on(desk.create_container("y")), Err(objects));
    rig.write(&name("x", "0"), b"instead").unwrap();
    assert_eq!(rig.usage(), usage(5, 5));
    let files = fs::read_dir(shelf_of(folder.path())).unwrap().count();
    assert_eq!(files, 1, "nothing but the container");
}

#[test]
fn what_is_there_is_found_again_and_what_was_being_written_is_removed() {
    // Goal: the index and the quota come from looking. Method: a restart with an unfinished write, a stranger's file, and an
    // object that somebody cut short while nobody looked.
    let folder = tempfile::tempdir().unwrap();
    let (a, shelf) = (name("X/..", "\u{e4}"), shelf_of(folder.path()));
    {
        let rig = Rig::start(folder.path());
        rig.on(rig.desk().create_container("X/..")).unwrap();
        rig.write(&a, &[3; 5_000]).unwrap();
        let unfinished = rig.on(rig.desk().begin()).unwrap();
        rig.on(rig.desk().append(unfinished, Bytes::from_static(b"lost"))).unwrap();
    }
    fs::write(shelf.join("~99"), b"left by a power cut").unwrap();
    fs::write(shelf.join("Stranger"), vec![0; 5_000]).unwrap();
    let rig = Rig::start(folder.path());
    assert_eq!(rig.usage(), usage(5, 3), "a container, two blocks of the object, two of the stranger");
    assert_eq!((rig.list("X/.."), rig.read(&a).unwrap().len()), (vec!["\u{e4}".to_owned()], 5_000));
    assert!(!shelf.join("~99").exists() && shelf.join("Stranger").exists());
    let file = shelf.join("+x%2f..").join("%c3%a4");
    fs::write(&file, b"short").unwrap();
    assert_eq!(rig.read(&a), Err(BlobError::Damaged));
    fs::remove_file(&file).unwrap();
    assert_eq!((rig.read(&a), rig.usage()), (Err(BlobError::Damaged), usage(3, 2)));
    rig.write(&a, b"whole again").unwrap();
    assert_eq!(&*rig.read(&a).unwrap(), b"whole again");
}

#[test]
fn one_link_cannot_use_up_the_descriptors_of_the_gateway() {
    // Goal: open objects are bounded, and room comes back when they are let go of. Method: as many as there may be.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path());
    let desk = rig.handle.at(Place { bytes_max: 1 << 20, objects_max: 100, ..place() });
    rig.on(desk.create_container("x")).unwrap();
    rig.write(&name("x", "a"), b"1").unwrap();
    let mut tickets: Vec<_> = (1..OPEN_MAX).map(|_| rig.on(desk.begin()).unwrap()).collect();
    let held = rig.on(desk.open(name("x", "a"))).unwrap();
    assert!(rig.on(desk.begin()).is_err_and(|error| error == BlobError::Busy));
    assert!(rig.on(desk.open(name("x", "a"))).is_err_and(|error| error == BlobError::Busy));
    tickets.pop();
    let again = rig.on(desk.open(name("x", "a"))).unwrap();
    assert!(rig.on(desk.begin()).is_err_and(|error| error == BlobError::Busy));
    drop((held, again));
    assert!(rig.on(desk.begin()).is_ok());
}

#[test]
fn no_name_leaves_the_folder() {
    // Goal: names that attack are names like any other, or refused. Method: write, list and remove each of them.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path());
    for attack in ["..", ".", "../x", "a/b", "/etc/passwd", "a\0b", "~1", "=", "\u{202e}gpj"] {
        rig.on(rig.desk().create_container(attack)).unwrap();
        rig.write(&name(attack, attack), b"1").unwrap();
        assert_eq!(rig.list(attack), [attack]);
        rig.on(rig.desk().delete_container(attack)).unwrap();
    }
    for attack in [String::new(), "x".repeat(300)] {
        assert_eq!(rig.on(rig.desk().create_container(&attack)), Err(BlobError::Name));
        rig.on(rig.desk().create_container("x")).unwrap();
        assert_eq!(rig.write(&name("x", &attack), b"1"), Err(BlobError::Name));
    }
    assert_eq!(rig.usage(), usage(1, 1));
    let entries = |path: &Path| fs::read_dir(path).unwrap().count();
    assert_eq!((entries(folder.path()), entries(&shelf_of(folder.path()))), (1, 1), "blobs, and x in it");
}
