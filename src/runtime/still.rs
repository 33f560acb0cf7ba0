//! Streams and polls that never wait. Of what components are given nothing has to be waited for ([`super::wasi`]), so that
//! every future of wasmtime's is ready the first time it is looked at; one that is not would hold up the pipeline, and ends
//! the instance.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::io::{poll as polls, streams as flows};
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult};

const WAITS: &str = "it waits for something, which no component may";

/// The handles of a component, of which none waits.
pub(super) struct Still<'a>(pub(super) &'a mut ResourceTable);

/// How the linker names [`Still`].
pub(super) struct Stillness;

impl HasData for Stillness {
    type Data<'a> = Still<'a>;
}

fn at_once<T>(future: impl Future<Output = T>) -> wasmtime::Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Ok(result),
        Poll::Pending => wasmtime::bail!(WAITS),
    }
}

fn streamed<T>(future: impl Future<Output = StreamResult<T>>) -> StreamResult<T> {
    at_once(future).map_err(StreamError::Trap)?
}

impl poll::Host for Still<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        at_once(polls::Host::poll(self.0, pollables))?
    }
}

impl poll::HostPollable for Still<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        at_once(polls::HostPollable::ready(self.0, pollable))?
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        at_once(polls::HostPollable::block(self.0, pollable))?
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        polls::HostPollable::drop(self.0, pollable)
    }
}

impl streams::Host for Still<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        Ok(flows::Host::convert_stream_error(self.0, error)?.into())
    }
}

impl streams::HostInputStream for Still<'_> {
    fn read(&mut self, stream: Resource<DynInputStream>, bytes: u64) -> StreamResult<Vec<u8>> {
        flows::HostInputStream::read(self.0, stream, bytes)
    }

    fn blocking_read(&mut self, stream: Resource<DynInputStream>, bytes: u64) -> StreamResult<Vec<u8>> {
        streamed(flows::HostInputStream::blocking_read(self.0, stream, bytes))
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, bytes: u64) -> StreamResult<u64> {
        flows::HostInputStream::skip(self.0, stream, bytes)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, bytes: u64) -> StreamResult<u64> {
        streamed(flows::HostInputStream::blocking_skip(self.0, stream, bytes))
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        flows::HostInputStream::subscribe(self.0, stream)
    }

    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        at_once(flows::HostInputStream::drop(self.0, stream))?
    }
}

impl streams::HostOutputStream for Still<'_> {
    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        flows::HostOutputStream::check_write(self.0, stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        flows::HostOutputStream::write(self.0, stream, bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        streamed(flows::HostOutputStream::blocking_write_and_flush(self.0, stream, bytes))
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        flows::HostOutputStream::flush(self.0, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        streamed(flows::HostOutputStream::blocking_flush(self.0, stream))
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        flows::HostOutputStream::subscribe(self.0, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, bytes: u64) -> StreamResult<()> {
        flows::HostOutputStream::write_zeroes(self.0, stream, bytes)
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: u64,
    ) -> StreamResult<()> {
        streamed(flows::HostOutputStream::blocking_write_zeroes_and_flush(self.0, stream, bytes))
    }

    fn splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        bytes: u64,
    ) -> StreamResult<u64> {
        flows::HostOutputStream::splice(self.0, to, from, bytes)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        bytes: u64,
    ) -> StreamResult<u64> {
        streamed(flows::HostOutputStream::blocking_splice(self.0, to, from, bytes))
    }

    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        at_once(flows::HostOutputStream::drop(self.0, stream))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_wait_is_an_error_and_what_is_there_is_not() {
        // Goal: nothing that a component calls holds up the pipeline. Method: a future of each kind.
        assert_eq!(at_once(std::future::ready(7)).unwrap(), 7);
        assert_eq!(at_once(std::future::pending::<()>()).unwrap_err().to_string(), WAITS);
        let waits = streamed(std::future::pending::<StreamResult<()>>()).unwrap_err();
        assert!(matches!(waits, StreamError::Trap(error) if error.to_string() == WAITS));
    }
}
