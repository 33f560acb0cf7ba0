//! A Modbus slave for tests: on a pseudo-terminal that can be unplugged and plugged in again, or on TCP. It has a mood.
//!
//! Its holding and input registers have their address plus 1,000 for a value, until they are written; every third coil is on.

use std::collections::HashMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use frond::config::{Device, DeviceEnd, Parity, SerialLine};
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The unit that answers; others are silent.
pub const UNIT: u8 = 3;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Sound,
    Late(Duration),
    Silent,
    Exception(u8),
    /// A byte of the check sum is wrong.
    WrongSum,
    /// Bytes that are no frame.
    Noise,
    /// The answer to a request for one register fewer.
    Short,
    /// It hangs up instead.
    HangUp,
}

/// What is known of it.
#[derive(Debug)]
struct Mind {
    mood: Mood,
    written: HashMap<u16, u16>,
    asked: u64,
}

/// The slave.
pub struct Slave {
    mind: Arc<Mutex<Mind>>,
    place: Place,
}

enum Place {
    Serial { link: PathBuf, plugged: Option<Plug> },
    Tcp { address: SocketAddr, _task: JoinSet<()> },
}

/// The other end of the line, held open together with the end that the gateway opens, as a cable is.
struct Plug {
    _slave: OwnedFd,
    task: JoinSet<()>,
}

impl Slave {
    /// On a pseudo-terminal that `link` leads to.
    pub fn serial(link: &Path) -> Slave {
        let mut slave = Slave {
            mind: Arc::new(Mutex::new(Mind { mood: Mood::Sound, written: HashMap::new(), asked: 0 })),
            place: Place::Serial { link: link.to_owned(), plugged: None },
        };
        slave.plug();
        slave
    }

    /// On a free port of the loopback.
    pub async fn tcp() -> Slave {
        let mind = Arc::new(Mutex::new(Mind { mood: Mood::Sound, written: HashMap::new(), asked: 0 }));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        let served = Arc::clone(&mind);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve_tcp(stream, Arc::clone(&served)));
            }
        });
        Slave { mind, place: Place::Tcp { address, _task: task } }
    }

    /// As a device of this name, with a timeout.
    pub fn device(&self, name: &str, timeout: Duration) -> Device {
        let end = match &self.place {
            Place::Serial { link, .. } => DeviceEnd::ModbusRtu(line(link)),
            Place::Tcp { address, .. } => {
                DeviceEnd::ModbusTcp { host: address.ip().to_string(), port: address.port() }
            }
        };
        Device { name: name.to_owned(), timeout, end }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        match &self.place {
            Place::Tcp { address, .. } => address.port(),
            Place::Serial { .. } => panic!("it is on a serial line"),
        }
    }

    pub fn be(&self, mood: Mood) {
        self.mind.lock().unwrap().mood = mood;
    }

    /// Requests that it has heard.
    pub fn asked(&self) -> u64 {
        self.mind.lock().unwrap().asked
    }

    /// What was written to a register.
    pub fn written(&self, address: u16) -> Option<u16> {
        self.mind.lock().unwrap().written.get(&address).copied()
    }

    /// Pulls the plug: the terminal is gone, and so is its name.
    pub async fn unplug(&mut self) {
        let Place::Serial { link, plugged } = &mut self.place else { panic!("it is on TCP") };
        std::fs::remove_file(link).unwrap();
        if let Some(mut plug) = plugged.take() {
            // The terminal hangs up when its other end is closed, which the task holds.
            plug.task.shutdown().await;
        }
    }

    /// Puts it in again, perhaps as another terminal.
    pub fn plug(&mut self) {
        let Place::Serial { link, plugged } = &mut self.place else { panic!("it is on TCP") };
        let (master, held) = terminal(link);
        let mut task = JoinSet::new();
        task.spawn(serve_serial(master, Arc::clone(&self.mind)));
        *plugged = Some(Plug { _slave: held, task });
    }
}

/// How the gateway sets the line. A pseudo-terminal has no parity.
pub fn line(path: &Path) -> SerialLine {
    SerialLine { path: path.to_owned(), baud: 115_200, data_bits: 8, parity: Parity::None, stop_bits: 1 }
}

/// A pseudo-terminal that `link` leads to: its master, and its slave held open, which would hang up otherwise whenever the
/// gateway closes its own. Children of this process must not get either, or it would never hang up.
pub fn terminal(link: &Path) -> (OwnedFd, OwnedFd) {
    use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let master = posix_openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname_r(&master).unwrap();
    let flags = OFlag::O_NOCTTY.bits();
    let held = File::options().read(true).write(true).custom_flags(flags).open(&name).unwrap();
    // It would echo, and change line ends, until somebody sets it.
    let mut settings = tcgetattr(&held).unwrap();
    cfmakeraw(&mut settings);
    tcsetattr(&held, SetArg::TCSANOW, &settings).unwrap();
    symlink(name, link).unwrap();
    (master.as_fd().try_clone_to_owned().unwrap(), held.into())
}

/// Both directions of the other end of a line.
pub fn ends(master: OwnedFd) -> (pipe::Receiver, pipe::Sender) {
    let other = File::from(master.try_clone().unwrap());
    let reads = pipe::Receiver::from_file_unchecked(File::from(master)).unwrap();
    (reads, pipe::Sender::from_file_unchecked(other).unwrap())
}

async fn serve_serial(master: OwnedFd, mind: Arc<Mutex<Mind>>) {
    let (mut reads, mut writes) = ends(master);
    let mut heard = Vec::new();
    let mut chunk = [0; 256];
    loop {
        // The gateway's own end is closed and opened now and then.
        let Ok(count) = reads.read(&mut chunk).await else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        heard.extend_from_slice(&chunk[..count]);
        while let Some(length) = frame_length(&heard) {
            let frame: Vec<u8> = heard.drain(..length).collect();
            let (said, sum) = frame.split_at(length - 2);
            assert_eq!(sum, crc(said), "the master's check sum is right");
            let mood = consider(&mind);
            if said[0] != UNIT {
                continue;
            }
            let answer = match mood {
                Mood::Silent | Mood::HangUp => continue,
                Mood::Noise => vec![0x55, 0xAA, 0x03, 0x55, 0xFF, 0x00, 0x17],
                _ => {
                    let mut answer = vec![said[0]];
                    answer.extend(pdu(&said[1..], mood, &mind));
                    let mut sum = crc(&answer);
                    if mood == Mood::WrongSum {
                        sum[1] ^= 0x10;
                    }
                    answer.extend(sum);
                    answer
                }
            };
            wait(mood).await;
            writes.write_all(&answer).await.unwrap();
        }
    }
}

async fn serve_tcp(mut stream: TcpStream, mind: Arc<Mutex<Mind>>) {
    let mut head = [0; 7];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let mut said = vec![0; length - 1];
        if stream.read_exact(&mut said).await.is_err() {
            return;
        }
        let mood = consider(&mind);
        match mood {
            Mood::Silent => continue,
            Mood::HangUp => return,
            _ => {}
        }
        let mut answer = pdu(&said, mood, &mind);
        let mut frame = head[..4].to_vec();
        if mood == Mood::WrongSum {
            // There is none on TCP; another protocol's number is as good.
            frame[2] = 0x11;
        }
        if mood == Mood::Noise {
            answer = vec![0x03, 0x09, 0x01];
        }
        frame.extend(u16::try_from(answer.len() + 1).unwrap().to_be_bytes());
        frame.push(head[6]);
        frame.extend(answer);
        wait(mood).await;
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}

fn consider(mind: &Mutex<Mind>) -> Mood {
    let mut mind = mind.lock().unwrap();
    mind.asked += 1;
    mind.mood
}

async fn wait(mood: Mood) {
    if let Mood::Late(late) = mood {
        sleep(late).await;
    }
}

/// The length of the request that has come whole, with unit and check sum.
fn frame_length(heard: &[u8]) -> Option<usize> {
    let length = match *heard.get(1)? {
        15 | 16 => 9 + usize::from(*heard.get(6)?),
        _ => 8,
    };
    (heard.len() >= length).then_some(length)
}

/// The answer to a request, without unit and check sum.
fn pdu(said: &[u8], mood: Mood, mind: &Mutex<Mind>) -> Vec<u8> {
    let number = |at: usize| u16::from_be_bytes([said[at], said[at + 1]]);
    let (function, address) = (said[0], number(1));
    if let Mood::Exception(code) = mood {
        return vec![function | 0x80, code];
    }
    let count = if mood == Mood::Short { number(3) - 1 } else { number(3) };
    let mut mind = mind.lock().unwrap();
    match function {
        1 | 2 => {
            let mut bits = vec![0_u8; usize::from(count).div_ceil(8)];
            (0..count)
                .filter(|n| (address + n) % 3 == 0)
                .for_each(|n| bits[usize::from(n / 8)] |= 1 << (n % 8));
            [vec![function, u8::try_from(bits.len()).unwrap()], bits].concat()
        }
        3 | 4 => {
            let value = |at: u16| mind.written.get(&at).copied().unwrap_or(1_000 + at);
            let words: Vec<u8> = (address..address + count).flat_map(|at| value(at).to_be_bytes()).collect();
            [vec![function, u8::try_from(words.len()).unwrap()], words].concat()
        }
        6 => {
            mind.written.insert(address, number(3));
            said.to_vec()
        }
        16 => {
            for n in 0..count {
                mind.written.insert(address + n, number(6 + 2 * usize::from(n)));
            }
            said[..5].to_vec()
        }
        _ => said[..5].to_vec(),
    }
}

/// The check sum of Modbus RTU, low byte first.
fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0xFFFF_u16;
    for byte in bytes {
        sum ^= u16::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xA001 } else { sum >> 1 };
        }
    }
    sum.to_le_bytes()
}
