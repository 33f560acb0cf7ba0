//! A line of a GPIO chip, by the kernel's character device. The kernel keeps the line for whoever has requested it, and the
//! newest [`EDGES_MAX`] edges that nobody has waited for.

use std::os::fd::{AsFd as _, OwnedFd};

use gpiocdev::line::{Bias, Config, EdgeDetection, EdgeKind, Offset, Value};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

use super::{After, Answer, Refusal};
use crate::config::{self, Direction, GpioLine, Polarity};
use crate::platform::device;

/// Edges that the kernel keeps.
const EDGES_MAX: u32 = 16;
/// What `gpioinfo` says of who has the line.
const CONSUMER: &str = "frond";

/// The line.
pub(super) struct Gpio {
    request: gpiocdev::Request,
    /// The same file, told when there is an edge to read.
    told: AsyncFd<OwnedFd>,
    offset: Offset,
    direction: Direction,
    edges: Edges,
}

/// Whether a line tells its edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edges {
    Told,
    NotTold,
}

/// How the kernel is asked for a line. Pure.
fn config_of(line: &GpioLine, edges: Edges) -> gpiocdev::request::Config {
    let mut config = Config { active_low: line.polarity == Polarity::ActiveLow, ..Config::default() };
    config.bias = match line.bias {
        config::Bias::AsIs => None,
        config::Bias::Disabled => Some(Bias::Disabled),
        config::Bias::PullUp => Some(Bias::PullUp),
        config::Bias::PullDown => Some(Bias::PullDown),
    };
    match line.direction {
        Direction::Input => {
            config.direction = Some(gpiocdev::line::Direction::Input);
            config.edge_detection = (edges == Edges::Told).then_some(EdgeDetection::BothEdges);
        }
        Direction::Output(initial) => {
            config.direction = Some(gpiocdev::line::Direction::Output);
            config.value = Some(value(initial));
        }
    }
    let mut request = gpiocdev::request::Config::default();
    request.on_chip(&line.chip).with_line(line.line).from_line_config(&config);
    request
}

fn value(is_active: bool) -> Value {
    if is_active { Value::Active } else { Value::Inactive }
}

// === impl Gpio ===

impl Gpio {
    /// Requests the line of the kernel. An input is asked for its edges; one whose chip tells none is read all the same.
    pub fn open(line: &GpioLine) -> Result<Gpio, String> {
        let told = match line.direction {
            Direction::Input => Edges::Told,
            Direction::Output(_) => Edges::NotTold,
        };
        let (request, edges) = match (request(line, told), told) {
            (Ok(request), _) => (request, told),
            (Err(_), Edges::Told) => (request(line, Edges::NotTold)?, Edges::NotTold),
            (Err(error), Edges::NotTold) => return Err(error),
        };
        let told = request.as_fd().try_clone_to_owned().and_then(device::watch);
        let told = told.map_err(|error| error.to_string())?;
        Ok(Gpio { request, told, offset: line.line, direction: line.direction, edges })
    }

    pub fn level(&self) -> (Result<Answer, Refusal>, After) {
        answer(self.request.value(self.offset), |value| Answer::Bits(vec![value == Value::Active]))
    }

    pub fn set_level(&self, is_active: bool) -> (Result<Answer, Refusal>, After) {
        if self.direction == Direction::Input {
            return (Err(Refusal::Invalid("it is an input")), After::Sound);
        }
        answer(self.request.set_value(self.offset, value(is_active)), |()| Answer::Done)
    }

    pub async fn edge(&self, until: Instant) -> (Result<Answer, Refusal>, After) {
        if self.edges == Edges::NotTold {
            return (Err(Refusal::Invalid("this line tells no edges")), After::Sound);
        }
        let waited = timeout_at(until, async {
            loop {
                let mut ready = self.told.readable().await?;
                match self.request.has_edge_event()? {
                    true => return self.request.read_edge_event(),
                    false => ready.clear_ready(),
                }
            }
        });
        match waited.await {
            Err(_) => (Ok(Answer::Edge(None)), After::Sound),
            Ok(edge) => answer(edge, |edge| Answer::Edge(Some(edge.kind == EdgeKind::Rising))),
        }
    }
}

impl std::fmt::Debug for Gpio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpio").field("offset", &self.offset).finish_non_exhaustive()
    }
}

fn request(line: &GpioLine, edges: Edges) -> Result<gpiocdev::Request, String> {
    gpiocdev::Request::from_config(config_of(line, edges))
        .with_consumer(CONSUMER)
        .with_kernel_event_buffer_size(EDGES_MAX)
        .request()
        .map_err(|error| format!("{}: {}", line.chip.display(), crate::platform::log::chain(&error)))
}

/// A line that the kernel does not give any more is lost.
fn answer<T>(
    done: Result<T, gpiocdev::Error>,
    make: impl FnOnce(T) -> Answer,
) -> (Result<Answer, Refusal>, After) {
    match done {
        Ok(done) => (Ok(make(done)), After::Sound),
        Err(error) => {
            let why = crate::platform::log::chain(&error).to_string();
            (Err(Refusal::NotThere(why.clone())), After::Lost(why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(direction: Direction) -> GpioLine {
        GpioLine {
            chip: "/dev/gpiochip7".into(),
            line: 17,
            direction,
            polarity: Polarity::ActiveLow,
            bias: config::Bias::PullUp,
        }
    }

    #[test]
    fn a_line_is_asked_for_as_it_is_configured() {
        // Goal: no output is driven the wrong way because a setting was mixed up. Method: what the kernel would be asked, for
        // every direction, polarity and bias.
        let asked = |line: &GpioLine, edges| {
            let config = config_of(line, edges);
            assert_eq!(config.chip(), std::path::Path::new("/dev/gpiochip7"));
            config.line_config(17).expect("it is the line that is configured").clone()
        };
        let input = asked(&line(Direction::Input), Edges::Told);
        assert_eq!(input.direction, Some(gpiocdev::line::Direction::Input));
        assert_eq!((input.active_low, input.bias), (true, Some(Bias::PullUp)));
        assert_eq!(input.edge_detection, Some(EdgeDetection::BothEdges));
        assert_eq!(asked(&line(Direction::Input), Edges::NotTold).edge_detection, None);
        for initial in [false, true] {
            let output = asked(&line(Direction::Output(initial)), Edges::NotTold);
            assert_eq!(output.direction, Some(gpiocdev::line::Direction::Output));
            assert_eq!(output.value, Some(value(initial)));
            assert_eq!(output.edge_detection, None);
        }
        for (bias, expected) in [
            (config::Bias::AsIs, None),
            (config::Bias::Disabled, Some(Bias::Disabled)),
            (config::Bias::PullDown, Some(Bias::PullDown)),
        ] {
            let line = GpioLine { bias, polarity: Polarity::ActiveHigh, ..line(Direction::Input) };
            let config = asked(&line, Edges::Told);
            assert_eq!((config.active_low, config.bias), (false, expected));
        }
    }

    #[test]
    fn a_chip_that_is_not_there_is_an_error_with_its_name() {
        // Goal: the status says what is missing. Method: a chip that nobody has.
        let error = Gpio::open(&line(Direction::Input)).expect_err("there is no such chip");
        assert!(error.contains("gpiochip7"), "{error}");
    }
}
