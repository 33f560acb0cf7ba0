//! The command line: one binary, noun and verb, `--json` beside every human view, exit codes that stay (see [`exit`]).

mod buffer;
mod certificate;
pub mod check;
pub mod component;
pub mod demo;
mod desired;
mod device_conf;
pub mod exit;
pub mod hub;
pub mod leaf_conf;
mod output;
mod password;
pub mod recall;
pub mod receipts;
pub mod render;
pub mod rows;
mod run;
pub mod server;
mod slot;
mod status;
pub mod tail;
mod trial;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::config::LogLevel;
use crate::platform::signals::Signals;
use crate::platform::{log, memory};

use component::ComponentCommand;
use exit::Exit;

/// Frond: firmware for edge gateways. Sensors in over MQTT, readings through sandboxed components, windows out to the
/// cloud lattice, and nothing acknowledged is ever lost.
#[derive(Debug, Parser)]
#[command(name = "frond", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Run(run::RunArgs),
    /// Validate a configuration and say what is wrong, where, and what it would cost in flash
    Check(check::CheckArgs),
    /// How the running gateway is
    Status(status::StatusArgs),
    /// What waits for the hub
    #[command(subcommand)]
    Buffer(buffer::BufferCommand),
    /// A plant, a gateway and a cloud on this machine, for a minute, with faults
    Demo(demo::DemoArgs),
    /// At the hub: keep what arrives, each row once, as JSON lines or in SQLite
    Hub(hub::HubArgs),
    /// At the hub: decode and print what arrives
    Tail(tail::TailArgs),
    /// At the hub: ask a gateway for raw readings
    Recall(recall::RecallArgs),
    /// Print the configuration of the leaf node beside the gateway
    LeafConf(leaf_conf::LeafConfArgs),
    /// Print the drop-in by which systemd lets the service reach the devices of the configuration
    DeviceConf(device_conf::DeviceConfArgs),
    /// Read a password and print its hash, for the password_hash_file of a [[user]]
    Password(password::PasswordArgs),
    /// Make a key, and a certificate that vouches for itself, for a [[listener]]
    Certificate(certificate::CertificateArgs),
    /// Write, inspect, test, measure and deploy components; start a quarantined one again
    #[command(subcommand)]
    Component(component::ComponentCommand),
    /// Links between components and providers of the running gateway
    #[command(subcommand)]
    Link(desired::LinkCommand),
    /// Named configurations of the running gateway, for links and components
    #[command(subcommand)]
    Config(desired::ConfigCommand),
    /// Labels of the running gateway, by which controllers place work
    #[command(subcommand)]
    Label(desired::LabelCommand),
    /// Providers of the running gateway, which links lead to
    #[command(subcommand)]
    Provider(desired::ProviderCommand),
    /// What was changed on the running gateway, when and by whom
    History(desired::HistoryArgs),
    /// The two slots the system lives in
    #[command(subcommand)]
    Slot(slot::SlotCommand),
    /// Forget everything this gateway was told and has gathered
    Reset(slot::ResetArgs),
    /// Compile a component; the gateway calls this in a child process
    #[command(hide = true)]
    Compile { input: PathBuf, output: PathBuf },
}

/// Runs the program and returns its exit code.
pub fn main() -> Exit {
    memory::set_up();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => {
            // Help and the version are asked for; the rest is a mistake.
            let _ = err.print();
            return if err.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("no other provider can have been installed before the first line of the program");
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::LeafConf(args) => leaf_conf::leaf_conf(&args),
        Command::DeviceConf(args) => device_conf::device_conf(&args),
        Command::Password(args) => finish(password::password(&args)),
        Command::Certificate(args) => finish(certificate::certificate(&args)),
        Command::Compile { input, output } => {
            let compiled = crate::runtime::compile::child(&input, &output);
            finish(compiled.map(|()| Exit::Ok).map_err(anyhow::Error::from))
        }
        Command::Component(ComponentCommand::Author(command)) => finish(component::run(&command)),
        Command::Reset(args) => finish(slot::reset(&args)),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime needs nothing that a running program lacks");
            finish(runtime.block_on(client(command)))
        }
    }
}

/// Commands that talk to somebody and end.
async fn client(command: Command) -> anyhow::Result<Exit> {
    log::init(match command {
        // It runs for days, and its progress is all there is to see.
        Command::Hub(_) => LogLevel::Info,
        _ => LogLevel::Warn,
    })?;
    let stop = CancellationToken::new();
    let signals = Signals::listen(stop.clone())?;
    let never = CancellationToken::new();
    tokio::select! {
        outcome = answer(command, stop) => outcome,
        _ = signals.run(never) => unreachable!("signals are heard until the program ends"),
    }
}

async fn answer(command: Command, stop: CancellationToken) -> anyhow::Result<Exit> {
    match command {
        Command::Status(args) => status::run(args).await,
        Command::Buffer(command) => buffer::run(command).await,
        Command::Slot(command) => slot::run(command).await,
        Command::Link(command) => desired::link(command).await,
        Command::Config(command) => desired::config(command).await,
        Command::Label(command) => desired::label(command).await,
        Command::Provider(command) => desired::provider(command).await,
        Command::History(args) => desired::history(args).await,
        Command::Component(ComponentCommand::Order(command)) => component::order::run(command).await,
        Command::Demo(args) => demo::run(args, stop).await,
        Command::Hub(args) => {
            let summary = hub::run(args.clone(), stop).await?;
            hub::print(&args, &summary);
            Ok(if summary.unexplained + summary.undecodable == 0 { Exit::Ok } else { Exit::Failure })
        }
        Command::Tail(args) => tail::run(args, stop).await.map(|()| Exit::Ok).map_err(Into::into),
        Command::Recall(args) => {
            let recalled = recall::run(args, stop).await?;
            eprintln!(
                "{} readings in {} chunks, {}",
                recalled.readings,
                recalled.chunks,
                render::bytes(recalled.bytes)
            );
            Ok(Exit::Ok)
        }
        Command::Run(_)
        | Command::Check(_)
        | Command::LeafConf(_)
        | Command::DeviceConf(_)
        | Command::Password(_)
        | Command::Certificate(_)
        | Command::Component(ComponentCommand::Author(_))
        | Command::Reset(_)
        | Command::Compile { .. } => {
            unreachable!("handled before the runtime was made")
        }
    }
}

fn finish(outcome: anyhow::Result<Exit>) -> Exit {
    outcome.unwrap_or_else(|err| {
        eprintln!("frond: {}", log::chain(err.as_ref()));
        Exit::Failure
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn no_command_takes_two_options_of_one_name() {
        // Goal: what the parser finds out only when a command is typed is found out here. Method: its own check.
        super::Cli::command().debug_assert();
    }
}
