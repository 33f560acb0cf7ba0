//! Where components get to MQTT, and how one logs in there.

use std::net::SocketAddr;
use std::path::PathBuf;

use rumqttc::v5::{EventLoop, MqttOptions};

use crate::config;

/// Where MQTT is.
#[derive(Debug, Clone)]
pub enum Door {
    /// The gateway's own listener, by the port for components.
    Inside {
        /// Where it is.
        address: SocketAddr,
        /// Known to this process alone.
        secret: String,
    },
    /// The broker on site.
    Broker(config::Broker),
    /// Nowhere; no link needs it.
    None,
}

/// A connection that is to be made.
pub(super) struct Login {
    pub(super) options: MqttOptions,
    pub(super) password_file: Option<PasswordFile>,
}

/// A user whose password is read anew before each connection: it may have changed.
pub(super) struct PasswordFile {
    user: String,
    path: PathBuf,
}

// === impl Login ===

impl Login {
    /// By the name of a component. `None` where there is no MQTT.
    pub(super) fn at(door: &Door, component: &str) -> Option<Login> {
        match door {
            Door::None => None,
            Door::Inside { address, secret } => {
                let id = format!("frond-component-{component}");
                let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
                options.set_credentials(component, secret);
                Some(Login { options, password_file: None })
            }
            Door::Broker(broker) => {
                let id = format!("{}-component-{component}", broker.client_id);
                let host = broker.host.trim_start_matches('[').trim_end_matches(']');
                let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                let mut options = MqttOptions::new(id, host, broker.port);
                let mut password_file = None;
                match (broker.username.clone(), broker.password_file.clone()) {
                    (Some(user), Some(path)) => password_file = Some(PasswordFile { user, path }),
                    (Some(user), None) => {
                        options.set_credentials(user, "");
                    }
                    _ => {}
                }
                Some(Login { options, password_file })
            }
        }
    }
}

/// Takes the password for the next connection, if there is one.
pub(super) async fn read_password(file: Option<&PasswordFile>, eventloop: &mut EventLoop) {
    let Some(PasswordFile { user, path }) = file else { return };
    match tokio::fs::read_to_string(path).await {
        Ok(password) => {
            eventloop.options.set_credentials(user, password.trim_end_matches(['\r', '\n']));
        }
        Err(error) => tracing::warn!(file = %path.display(), %error, "the broker's password cannot be read"),
    }
}
