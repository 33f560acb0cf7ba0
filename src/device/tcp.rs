//! A Modbus server over TCP: one connection, made anew whenever an answer was missing or wrong.
//!
//! An answer that comes late dies with its connection, so that none is taken for the next one's. A server that closes
//! connections nobody has used for a while is usual; what was read over such a one is asked once more over a new one.
//! What was written is not: nobody can tell whether it arrived.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_modbus::Slave;
use tokio_modbus::client::{Client as _, Context};
use tokio_modbus::slave::SlaveContext as _;

use super::modbus::{self, Query};
use super::{After, Answer, Refusal};

/// The connection.
pub(super) struct Tcp {
    host: String,
    port: u16,
    patience: Duration,
    context: Context,
    /// It has answered before, so that the server may have closed it since.
    has_answered: bool,
}

// === impl Tcp ===

impl Tcp {
    /// Connects.
    pub async fn open(host: &str, port: u16, patience: Duration) -> Result<Tcp, String> {
        let context = connect(host, port, patience).await?;
        Ok(Tcp { host: host.to_owned(), port, patience, context, has_answered: false })
    }

    pub async fn call(&mut self, unit: u8, query: &Query) -> (Result<Answer, Refusal>, After) {
        loop {
            self.context.set_slave(Slave(unit));
            let Ok(heard) = timeout(self.patience, self.context.call(query.request())).await else {
                return (Err(Refusal::Timeout), After::Stale);
            };
            let error = match modbus::judge(query, heard) {
                Ok(Err(refusal @ Refusal::Malformed(_))) => return (Err(refusal), After::Stale),
                Ok(answer) => {
                    self.has_answered = true;
                    return (answer, After::Sound);
                }
                Err(error) => error,
            };
            // At the end of the stream the library gives whatever error came last.
            tracing::debug!(%error, "a Modbus connection broke");
            let lost = "the connection broke".to_owned();
            if !self.has_answered || !query.is_read() {
                return (Err(Refusal::NotThere(lost.clone())), After::Lost(lost));
            }
            self.has_answered = false;
            match connect(&self.host, self.port, self.patience).await {
                Ok(context) => self.context = context,
                Err(why) => return (Err(Refusal::NotThere(why.clone())), After::Lost(why)),
            }
        }
    }
}

async fn connect(host: &str, port: u16, patience: Duration) -> Result<Context, String> {
    let stream = match timeout(patience, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("{host}:{port} cannot be reached: {error}")),
        Err(_) => return Err(format!("{host}:{port} cannot be reached: no answer")),
    };
    // A request is one small packet; without this some answers would wait for the next one.
    stream.set_nodelay(true).map_err(|error| format!("{host}:{port} cannot be used: {error}"))?;
    Ok(tokio_modbus::client::tcp::attach(stream))
}
