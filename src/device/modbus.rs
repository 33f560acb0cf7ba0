//! What may be asked of a Modbus slave, and which answers are believed. Pure.

use std::borrow::Cow;

use tokio_modbus::{ExceptionCode, Request, Response};

use super::{Answer, Refusal};

/// Most of each in one request, as the Modbus application protocol (V1.1b3, section 6) has it.
const BITS_READ_MAX: u16 = 2_000;
const WORDS_READ_MAX: u16 = 125;
const BITS_WRITTEN_MAX: usize = 1_968;
const WORDS_WRITTEN_MAX: usize = 123;
/// Units on a serial line; 0 is for everybody, and those above are reserved.
const SLAVES: std::ops::RangeInclusive<u8> = 1..=247;

/// A question or an order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Query {
    Coils { address: u16, count: u16 },
    DiscreteInputs { address: u16, count: u16 },
    HoldingRegisters { address: u16, count: u16 },
    InputRegisters { address: u16, count: u16 },
    WriteCoil { address: u16, value: bool },
    WriteRegister { address: u16, value: u16 },
    WriteCoils { address: u16, values: Vec<bool> },
    WriteRegisters { address: u16, values: Vec<u16> },
}

/// Whether a unit can be somebody on a serial line.
pub(super) fn is_slave(unit: u8) -> bool {
    SLAVES.contains(&unit)
}

// === impl Query ===

impl Query {
    /// Whether asking it twice does no harm.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Query::Coils { .. }
                | Query::DiscreteInputs { .. }
                | Query::HoldingRegisters { .. }
                | Query::InputRegisters { .. }
        )
    }

    /// Refuses what no slave could do.
    pub(super) fn judge(&self) -> Result<(), Refusal> {
        let (address, count, count_max) = match self {
            Query::Coils { address, count } | Query::DiscreteInputs { address, count } => {
                (*address, usize::from(*count), usize::from(BITS_READ_MAX))
            }
            Query::HoldingRegisters { address, count } | Query::InputRegisters { address, count } => {
                (*address, usize::from(*count), usize::from(WORDS_READ_MAX))
            }
            Query::WriteCoil { address, .. } | Query::WriteRegister { address, .. } => (*address, 1, 1),
            Query::WriteCoils { address, values } => (*address, values.len(), BITS_WRITTEN_MAX),
            Query::WriteRegisters { address, values } => (*address, values.len(), WORDS_WRITTEN_MAX),
        };
        if count == 0 {
            return Err(Refusal::Invalid("nothing is asked for"));
        }
        if count > count_max {
            return Err(Refusal::Invalid("more than one Modbus request can hold"));
        }
        if usize::from(address) + count > 1 << 16 {
            return Err(Refusal::Invalid("addresses end at 65535"));
        }
        Ok(())
    }

    /// As it goes over the wire.
    pub(super) fn request(&self) -> Request<'_> {
        match self {
            Query::Coils { address, count } => Request::ReadCoils(*address, *count),
            Query::DiscreteInputs { address, count } => Request::ReadDiscreteInputs(*address, *count),
            Query::HoldingRegisters { address, count } => Request::ReadHoldingRegisters(*address, *count),
            Query::InputRegisters { address, count } => Request::ReadInputRegisters(*address, *count),
            Query::WriteCoil { address, value } => Request::WriteSingleCoil(*address, *value),
            Query::WriteRegister { address, value } => Request::WriteSingleRegister(*address, *value),
            Query::WriteCoils { address, values } => {
                Request::WriteMultipleCoils(*address, Cow::Borrowed(values))
            }
            Query::WriteRegisters { address, values } => {
                Request::WriteMultipleRegisters(*address, Cow::Borrowed(values))
            }
        }
    }

    /// Compares an answer with the question. The library has compared unit and function; a late answer to another question
    /// to the same unit shows only here, if at all.
    fn believe(&self, response: Response) -> Result<Answer, Refusal> {
        const OTHER: Refusal = Refusal::Malformed("the answer is to another question");
        let bits = |mut bits: Vec<bool>, count: u16| {
            let count = usize::from(count);
            if bits.len() != count.next_multiple_of(8) {
                return Err(OTHER);
            }
            bits.truncate(count);
            Ok(Answer::Bits(bits))
        };
        let words = |words: Vec<u16>, count: u16| match words.len() == usize::from(count) {
            true => Ok(Answer::Words(words)),
            false => Err(OTHER),
        };
        let done = |is_same: bool| if is_same { Ok(Answer::Done) } else { Err(OTHER) };
        match (self, response) {
            (Query::Coils { count, .. }, Response::ReadCoils(all))
            | (Query::DiscreteInputs { count, .. }, Response::ReadDiscreteInputs(all)) => bits(all, *count),
            (Query::HoldingRegisters { count, .. }, Response::ReadHoldingRegisters(all))
            | (Query::InputRegisters { count, .. }, Response::ReadInputRegisters(all)) => words(all, *count),
            (Query::WriteCoil { address, value }, Response::WriteSingleCoil(at, set)) => {
                done((*address, *value) == (at, set))
            }
            (Query::WriteRegister { address, value }, Response::WriteSingleRegister(at, set)) => {
                done((*address, *value) == (at, set))
            }
            (Query::WriteCoils { address, values }, Response::WriteMultipleCoils(at, count)) => {
                done(*address == at && values.len() == usize::from(count))
            }
            (Query::WriteRegisters { address, values }, Response::WriteMultipleRegisters(at, count)) => {
                done(*address == at && values.len() == usize::from(count))
            }
            _ => Err(OTHER),
        }
    }
}

/// What the library has heard, as an answer, or what went wrong with the line.
pub(super) fn judge(
    query: &Query,
    heard: tokio_modbus::Result<Response>,
) -> Result<Result<Answer, Refusal>, std::io::Error> {
    match heard {
        Ok(Ok(response)) => Ok(query.believe(response)),
        Ok(Err(exception)) => Ok(Err(Refusal::Exception(code(exception)))),
        Err(tokio_modbus::Error::Protocol(_)) => {
            Ok(Err(Refusal::Malformed("the answer is of another unit or function")))
        }
        Err(tokio_modbus::Error::Transport(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
            Ok(Err(Refusal::Malformed(GARBLED)))
        }
        Err(tokio_modbus::Error::Transport(error)) => Err(error),
    }
}

/// Said of bytes that are no frame.
pub(super) const GARBLED: &str = "what came is no answer: noise, or a wrong check sum";

fn code(exception: ExceptionCode) -> u8 {
    exception.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_question_is_believed() {
        // Goal: a late or wrong answer never becomes a reading. Method: each question with its own answer, and with one that
        // differs in one point.
        let holding = Query::HoldingRegisters { address: 7, count: 2 };
        let coils = Query::Coils { address: 0, count: 3 };
        let register = Query::WriteRegister { address: 7, value: 9 };
        let registers = Query::WriteRegisters { address: 7, values: vec![1, 2] };
        for (query, response, answer) in [
            (&holding, Response::ReadHoldingRegisters(vec![1, 2]), Some(Answer::Words(vec![1, 2]))),
            (&holding, Response::ReadHoldingRegisters(vec![1]), None),
            (&holding, Response::ReadHoldingRegisters(vec![1, 2, 3]), None),
            (&holding, Response::ReadInputRegisters(vec![1, 2]), None),
            (&coils, Response::ReadCoils(vec![true; 8]), Some(Answer::Bits(vec![true; 3]))),
            (&coils, Response::ReadCoils(vec![true; 16]), None),
            (&coils, Response::ReadCoils(vec![]), None),
            (&register, Response::WriteSingleRegister(7, 9), Some(Answer::Done)),
            (&register, Response::WriteSingleRegister(8, 9), None),
            (&register, Response::WriteSingleRegister(7, 8), None),
            (&registers, Response::WriteMultipleRegisters(7, 2), Some(Answer::Done)),
            (&registers, Response::WriteMultipleRegisters(7, 1), None),
        ] {
            let believed = query.believe(response.clone()).ok();
            assert_eq!(believed, answer, "{query:?} {response:?}");
        }
    }

    #[test]
    fn what_no_slave_could_do_is_refused_beforehand() {
        // Goal: nothing that cannot be answered goes over the line. Method: the bounds of each question, and one beyond.
        let good = |query: Query| query.judge().is_ok();
        for (count, is_good) in [(0, false), (1, true), (2_000, true), (2_001, false)] {
            assert_eq!(good(Query::Coils { address: 0, count }), is_good, "{count}");
            assert_eq!(good(Query::DiscreteInputs { address: 0, count }), is_good, "{count}");
        }
        for (count, is_good) in [(0, false), (125, true), (126, false)] {
            assert_eq!(good(Query::HoldingRegisters { address: 0, count }), is_good, "{count}");
        }
        for (count, is_good) in [(0, false), (123, true), (124, false)] {
            assert_eq!(
                good(Query::WriteRegisters { address: 0, values: vec![0; count] }),
                is_good,
                "{count}"
            );
        }
        assert!(good(Query::WriteCoils { address: 0, values: vec![false; 1_968] }));
        assert!(!good(Query::WriteCoils { address: 0, values: vec![false; 1_969] }));
        assert!(good(Query::InputRegisters { address: 65_535, count: 1 }));
        assert!(!good(Query::InputRegisters { address: 65_535, count: 2 }));
        assert_eq!((0..=255).filter(|unit| is_slave(*unit)).count(), 247);
    }
}
