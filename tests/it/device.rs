//! The owners of devices, against slaves on a pseudo-terminal and on TCP.

use std::time::Duration;

use frond::config::{Device, DeviceEnd};
use frond::device::{Answer, Ask, DeviceStatus, Devices, Query, Refusal, View, owners};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::slave::{Mood, Slave, UNIT, ends, line, terminal};

/// How long an answer may take: long enough for a machine that is busy with other tests.
const TIMEOUT: Duration = Duration::from_millis(400);
/// What has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Devices with their owners.
struct Bench {
    devices: Devices,
    views: Vec<View>,
    _tasks: JoinSet<()>,
}

impl Bench {
    fn new(devices: &[Device]) -> Bench {
        let (owners, devices, views) = owners(devices);
        let mut tasks = JoinSet::new();
        for owner in owners {
            tasks.spawn(async {
                let _ = owner.run(CancellationToken::new()).await;
            });
        }
        Bench { devices, views, _tasks: tasks }
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, Refusal> {
        let name = self.views[0].name();
        self.devices.ask(name, ask, Instant::now() + PATIENCE).await
    }

    async fn query(&self, query: Query) -> Result<Answer, Refusal> {
        self.ask(Ask::Modbus { unit: UNIT, query }).await
    }

    async fn holding(&self, address: u16, count: u16) -> Result<Answer, Refusal> {
        self.query(Query::HoldingRegisters { address, count }).await
    }

    fn status(&self) -> DeviceStatus {
        self.views[0].status()
    }

    async fn until(&self, what: &str, satisfies: impl Fn(&DeviceStatus) -> bool) -> DeviceStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if satisfies(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "not seen: {what}; {status:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn words(words: &[u16]) -> Result<Answer, Refusal> {
    Ok(Answer::Words(words.to_vec()))
}

/// One of each, on a line of its own.
async fn slaves(folder: &TempDir) -> [Slave; 2] {
    [Slave::serial(&folder.path().join("tty")), Slave::tcp().await]
}

#[tokio::test]
async fn registers_and_coils_are_read_and_written_over_both() {
    // Goal: every question gets its answer, and nonsense never reaches the line. Method: each kind of question to a slave on
    // a terminal and to one on TCP, whose values say which address they are of.
    let folder = TempDir::new().unwrap();
    for slave in slaves(&folder).await {
        let bench = Bench::new(&[slave.device("meter", TIMEOUT)]);
        assert_eq!(bench.holding(0, 2).await, words(&[1_000, 1_001]));
        let inputs = Query::InputRegisters { address: 7, count: 1 };
        assert_eq!(bench.query(inputs).await, words(&[1_007]));
        assert_eq!(bench.holding(0, 125).await, Ok(Answer::Words((1_000..1_125).collect())));
        let on = |from: u16| Answer::Bits((from..from + 9).map(|at| at % 3 == 0).collect());
        assert_eq!(bench.query(Query::Coils { address: 0, count: 9 }).await, Ok(on(0)));
        assert_eq!(bench.query(Query::DiscreteInputs { address: 4, count: 9 }).await, Ok(on(4)));

        let register = Query::WriteRegister { address: 5, value: 77 };
        assert_eq!(bench.query(register).await, Ok(Answer::Done));
        let registers = Query::WriteRegisters { address: 6, values: vec![78, 79] };
        assert_eq!(bench.query(registers).await, Ok(Answer::Done));
        assert_eq!(bench.holding(5, 3).await, words(&[77, 78, 79]));
        assert_eq!(bench.query(Query::WriteCoil { address: 1, value: true }).await, Ok(Answer::Done));
        let coils = Query::WriteCoils { address: 1, values: vec![true; 9] };
        assert_eq!(bench.query(coils).await, Ok(Answer::Done));

        slave.be(Mood::Exception(2));
        assert_eq!(bench.holding(0, 1).await, Err(Refusal::Exception(2)));
        slave.be(Mood::Sound);

        let asked = slave.asked();
        assert!(matches!(bench.holding(0, 126).await, Err(Refusal::Invalid(_))));
        assert!(matches!(bench.ask(Ask::Level).await, Err(Refusal::Invalid(_))));
        let elsewhere = bench.devices.ask("other", Ask::Level, Instant::now() + TIMEOUT).await;
        assert!(matches!(elsewhere, Err(Refusal::Invalid(_))));
        assert_eq!(slave.asked(), asked);
        let status = bench.status();
        assert_eq!((status.state.as_str(), status.exceptions, status.refused), ("ready", 1, 2), "{status:?}");
        assert_eq!((status.timeouts, status.malformed, status.reopenings), (0, 0, 0), "{status:?}");
    }
}

#[tokio::test]
async fn a_late_answer_is_not_taken_for_the_next_one() {
    // Goal: no register ever has the value of another. Method: a slave that answers after the timeout; at once the next
    // question, of the same kind and length, so that only the address tells the answers apart.
    let folder = TempDir::new().unwrap();
    for slave in slaves(&folder).await {
        let bench = Bench::new(&[slave.device("meter", TIMEOUT)]);
        for round in 0..3 {
            slave.be(Mood::Late(TIMEOUT + TIMEOUT / 2));
            assert_eq!(bench.holding(10, 1).await, Err(Refusal::Timeout), "round {round}");
            slave.be(Mood::Sound);
            assert_eq!(bench.holding(20, 1).await, words(&[1_020]), "round {round}");
        }
        let status = bench.status();
        assert_eq!((status.timeouts, status.malformed, status.unanswered), (3, 0, 0), "{status:?}");
    }
}

#[tokio::test]
async fn every_wrong_answer_has_its_error_and_the_next_one_is_right() {
    // Goal: a component can tell what is wrong, and nothing wrong lasts. Method: each way to answer wrongly, and after each
    // a sound answer.
    let folder = TempDir::new().unwrap();
    let [serial, tcp] = slaves(&folder).await;
    let kind = |answer: &Result<Answer, Refusal>| match answer {
        Err(Refusal::Timeout) => "timeout",
        Err(Refusal::Malformed(_)) => "malformed",
        Err(Refusal::NotThere(_)) => "not there",
        other => panic!("{other:?}"),
    };
    for (slave, moods) in [
        (
            serial,
            vec![
                (Mood::Silent, "timeout"),
                (Mood::WrongSum, "malformed"),
                (Mood::Noise, "malformed"),
                (Mood::Short, "malformed"),
            ],
        ),
        (
            tcp,
            vec![
                (Mood::Silent, "timeout"),
                (Mood::WrongSum, "malformed"),
                (Mood::Noise, "malformed"),
                (Mood::Short, "malformed"),
            ],
        ),
    ] {
        let bench = Bench::new(&[slave.device("meter", TIMEOUT)]);
        assert_eq!(bench.holding(0, 2).await, words(&[1_000, 1_001]));
        for (mood, expected) in moods {
            slave.be(mood);
            assert_eq!(kind(&bench.holding(0, 2).await), expected, "{mood:?}");
            slave.be(Mood::Sound);
            // A connection that broke as soon as it was used is not made anew at once.
            let again = async {
                loop {
                    match bench.holding(30, 2).await {
                        Err(Refusal::NotThere(_)) => sleep(Duration::from_millis(50)).await,
                        answer => return answer,
                    }
                }
            };
            let answer = timeout(PATIENCE, again).await.unwrap();
            assert_eq!(answer, words(&[1_030, 1_031]), "after {mood:?}");
        }
        // What does not answer for long is complained of, and no longer when it does.
        slave.be(Mood::Silent);
        for _ in 0..3 {
            assert!(bench.holding(0, 2).await.is_err());
        }
        let complaint = bench.status().complaint("meter").unwrap();
        assert!(complaint.contains("device meter (modbus-"), "{complaint}");
        slave.be(Mood::Sound);
        bench.until("an open port", |status| status.state == "ready").await;
        assert_eq!(bench.holding(0, 1).await, words(&[1_000]));
        assert_eq!(bench.status().complaint("meter"), None);
    }
}

#[tokio::test]
async fn a_server_that_closes_idle_connections_is_read_from_all_the_same_and_written_to_once() {
    // Goal: what many servers do is no error for reading, and nothing is written twice. Method: a server that hangs up
    // instead of answering, asked over a connection that has worked before.
    let slave = Slave::tcp().await;
    let bench = Bench::new(&[slave.device("meter", TIMEOUT)]);
    assert_eq!(bench.holding(0, 1).await, words(&[1_000]));
    slave.be(Mood::HangUp);
    let asked = slave.asked();
    assert!(matches!(bench.holding(0, 1).await, Err(Refusal::NotThere(_))));
    assert_eq!(slave.asked(), asked + 2, "reading was tried over a new connection");
    slave.be(Mood::Sound);
    let sound = async { while bench.holding(0, 1).await.is_err() {} };
    timeout(PATIENCE, sound).await.unwrap();
    slave.be(Mood::HangUp);
    let asked = slave.asked();
    let written = bench.query(Query::WriteRegister { address: 1, value: 2 }).await;
    assert!(matches!(written, Err(Refusal::NotThere(_))), "{written:?}");
    assert_eq!(slave.asked(), asked + 1, "writing was not");
}

#[tokio::test]
async fn a_dead_unit_costs_its_neighbours_on_the_line_nothing_but_time() {
    // Goal: one slave without power does not blind the others. Method: two askers on one line, one of a unit that is not
    // there; every answer of the other is right, and both get their turns.
    let folder = TempDir::new().unwrap();
    let slave = Slave::serial(&folder.path().join("tty"));
    let bench = Bench::new(&[slave.device("meter", TIMEOUT)]);
    let dead = async {
        for _ in 0..4 {
            let query = Query::HoldingRegisters { address: 0, count: 1 };
            assert_eq!(bench.ask(Ask::Modbus { unit: UNIT + 1, query }).await, Err(Refusal::Timeout));
        }
    };
    let sound = async {
        for address in 0..12 {
            assert_eq!(bench.holding(address, 1).await, words(&[1_000 + address]));
        }
    };
    timeout(PATIENCE, async { tokio::join!(dead, sound) }).await.unwrap();
    let status = bench.status();
    assert_eq!((status.timeouts, status.not_there, status.reopenings), (4, 0, 0), "{status:?}");
}

#[tokio::test]
async fn an_unplugged_device_is_complained_of_and_comes_back_by_itself() {
    // Goal: nobody has to restart anything. Method: a device that is not there at the start, is plugged in, unplugged while
    // nothing is asked, and plugged in again as another terminal.
    let folder = TempDir::new().unwrap();
    let link = folder.path().join("tty");
    let mut slave = Slave::serial(&link);
    slave.unplug().await;
    let bench = Bench::new(&[slave.device("meter", TIMEOUT)]);
    let status = bench.until("a device that is not there", |status| status.state == "absent").await;
    let complaint = status.complaint("meter").unwrap();
    assert!(complaint.contains("tty: No such file or directory"), "{complaint}");
    let refused = bench.holding(0, 1).await;
    assert!(matches!(&refused, Err(Refusal::NotThere(why)) if why.contains("No such file")), "{refused:?}");
    for _ in 0..2 {
        slave.plug();
        bench.until("the device", |status| status.state == "ready").await;
        assert_eq!(bench.holding(4, 1).await, words(&[1_004]));
        assert_eq!(bench.status().complaint("meter"), None);
        slave.unplug().await;
        bench.until("a device that is gone", |status| status.state == "absent").await;
    }
    assert!(bench.status().reopenings >= 3, "{:?}", bench.status());
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_done_and_a_full_queue_says_so() {
    // Goal: an order is not carried out behind the back of whoever gave it up. Method: a slave that keeps the line busy;
    // an order behind that whose giver stops waiting; and more requests than the queue holds.
    let folder = TempDir::new().unwrap();
    let slave = Slave::serial(&folder.path().join("tty"));
    let bench = Bench::new(&[slave.device("meter", Duration::from_secs(2))]);
    assert_eq!(bench.holding(0, 1).await, words(&[1_000]));
    slave.be(Mood::Late(Duration::from_secs(1)));
    let busy = bench.holding(1, 1);
    let order = async {
        let until = Instant::now() + Duration::from_millis(100);
        let query = Query::WriteRegister { address: 9, value: 9 };
        bench.devices.ask("meter", Ask::Modbus { unit: UNIT, query }, until).await
    };
    let (busy, order) = tokio::join!(busy, order);
    assert_eq!((busy, order), (words(&[1_001]), Err(Refusal::Timeout)));
    let mut asks: Vec<_> = (0..20).map(|address| Box::pin(bench.holding(address, 1))).collect();
    let mut answers = Vec::new();
    // The first is polled first, then waits for the line with sixteen others; the rest is refused.
    slave.be(Mood::Sound);
    for ask in futures_util::future::join_all(asks.drain(..)).await {
        answers.push(ask);
    }
    let busy = answers.iter().filter(|answer| **answer == Err(Refusal::Busy)).count();
    assert!((3..=4).contains(&busy), "{busy} of 20 were refused");
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 20 - busy);
    assert_eq!(slave.written(9), None, "the order was given up before its turn");
}

#[tokio::test]
async fn a_serial_line_keeps_what_nobody_has_read_and_writes_what_it_is_told() {
    // Goal: bytes come whole and in order, a wait has an end, and nothing old is taken for an answer. Method: the other end
    // of a terminal.
    let folder = TempDir::new().unwrap();
    let link = folder.path().join("tty");
    let (master, held) = terminal(&link);
    let (mut reads, mut writes) = ends(master);
    let device = Device { name: "scale".into(), timeout: TIMEOUT, end: DeviceEnd::Serial(line(&link)) };
    let bench = Bench::new(&[device]);
    bench.until("the line", |status| status.state == "ready").await;
    let read = async |bytes_max: usize, patience: Duration| {
        bench.ask(Ask::Read { bytes_max, until: Instant::now() + patience }).await
    };
    let bytes = |bytes: &[u8]| Ok(Answer::Bytes(bytes.to_vec()));

    assert_eq!(read(10, Duration::from_millis(20)).await, bytes(b""), "none came");
    writes.write_all(b"12.50 kg").await.unwrap();
    assert_eq!(read(5, PATIENCE).await, bytes(b"12.50"));
    assert_eq!(read(100, PATIENCE).await, bytes(b" kg"));
    assert_eq!(bench.ask(Ask::Write(b"T\r\n".to_vec())).await, Ok(Answer::Done));
    let mut said = [0; 3];
    timeout(PATIENCE, reads.read_exact(&mut said)).await.unwrap().unwrap();
    assert_eq!(&said, b"T\r\n");
    writes.write_all(b"old").await.unwrap();
    let kept = async {
        // What came may still be on its way through the terminal.
        while read(1, PATIENCE).await != bytes(b"o") {}
    };
    timeout(PATIENCE, kept).await.unwrap();
    assert_eq!(bench.ask(Ask::DiscardInput).await, Ok(Answer::Done));
    writes.write_all(b"new").await.unwrap();
    assert_eq!(read(100, PATIENCE).await, bytes(b"new"));
    for nonsense in [Ask::Read { bytes_max: 0, until: Instant::now() }, Ask::Write(Vec::new())] {
        assert!(matches!(bench.ask(nonsense).await, Err(Refusal::Invalid(_))));
    }
    drop((reads, writes, held));
    bench.until("a line that hung up", |status| status.reopenings > 0).await;
}
