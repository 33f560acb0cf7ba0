//! `frond slot`: the two slots, by hand.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;

use crate::config;
use crate::slot::{self, Installer, Record, Slot, Standing};

use super::exit::Exit;

/// What to do with the slots.
#[derive(Debug, Subcommand)]
pub enum SlotCommand {
    /// Which slot is booted, confirmed and next, and what is in them
    Status,
    /// Write a bundle to the other slot; the next start tries it
    Install {
        /// The bundle, a .raucb file
        bundle: PathBuf,
        /// Restart at once
        #[arg(long)]
        reboot: bool,
    },
    /// Keep the booted slot now, without waiting for the end of its trial
    Confirm,
    /// Go back: end this trial, or try the slot that was confirmed before
    Rollback {
        /// Restart at once
        #[arg(long)]
        reboot: bool,
    },
}

/// Arguments of `frond reset`.
#[derive(Debug, clap::Args)]
pub struct ResetArgs {
    /// Really: databases, buffer, secrets and everything that was provisioned are lost
    #[arg(long)]
    yes: bool,
    /// Restart at once
    #[arg(long)]
    reboot: bool,
}

/// Where the initramfs looks for the wish, beside what it provisions.
const RESET_WISH: &str = "/var/lib/site/reset";

/// Does it.
pub async fn run(command: SlotCommand) -> anyhow::Result<Exit> {
    let Some(booted) = slot::booted() else {
        eprintln!("this machine has no slots: it was not started from the image");
        return Ok(Exit::NotApplicable);
    };
    let data_dir = config::load(&config::Paths::system())?.gateway.data_dir;
    match command {
        SlotCommand::Status => status(booted, &data_dir).await?,
        SlotCommand::Install { bundle, reboot } => install(booted, &data_dir, &bundle, reboot).await?,
        SlotCommand::Confirm => confirm(booted, &data_dir).await?,
        SlotCommand::Rollback { reboot } => rollback(booted, &data_dir, reboot).await?,
    }
    Ok(Exit::Ok)
}

/// RAUC's service has these to itself (PrivateTmp=).
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

async fn status(booted: Slot, data_dir: &Path) -> anyhow::Result<()> {
    let record = Record::load(data_dir)?;
    println!("booted     {}", Standing::of(booted, record));
    match record {
        Some(record) => println!("confirmed  slot {}", record.confirmed),
        None => println!("confirmed  none yet"),
    }
    let rauc = Installer::connect().await?;
    match rauc.next().await {
        Some(next) => println!("next       slot {next}"),
        None => println!("next       the starter chooses"),
    }
    for slot in [Slot::A, Slot::B] {
        let state = rauc.state(slot).await?;
        let version = match (&state.version, slot) {
            _ if !state.complete => "no system, an installation failed".to_owned(),
            (Some(version), _) => format!("bundle {version}"),
            (None, slot) if slot == booted => "as flashed".to_owned(),
            (None, _) => "no bundle".to_owned(),
        };
        let installed = state.installed.filter(|_| state.complete);
        let since = installed.map(|at| format!(", installed {at}")).unwrap_or_default();
        println!(
            "slot {slot}     {version}{since}; firmware: {}",
            state.boot_status.as_deref().unwrap_or("unknown")
        );
    }
    Ok(())
}

async fn install(booted: Slot, data_dir: &Path, bundle: &Path, reboot: bool) -> anyhow::Result<()> {
    let record = Record::load(data_dir)?;
    let Standing::Confirmed(_) = Standing::of(booted, record) else {
        bail!(
            "slot {booted} is on trial itself: confirm it first (frond slot confirm), or go back (frond slot rollback)"
        );
    };
    let bundle = bundle.canonicalize().with_context(|| format!("cannot find {}", bundle.display()))?;
    if TEMPORARY.iter().any(|folder| bundle.starts_with(folder)) {
        bail!(
            "RAUC, which installs, has another {} than you: put the bundle elsewhere, below /var/lib for instance",
            TEMPORARY.join(" and ")
        );
    }
    // Before the first byte: the other slot is no longer what was confirmed.
    record.expect("a confirmed slot is on record").installing().store(data_dir)?;
    let rauc = Installer::connect().await?;
    let mut said = String::new();
    rauc.install(&bundle, |progress| {
        if progress.what != said {
            println!("{:3} %  {}", progress.percent, progress.what);
            said = progress.what;
        }
    })
    .await?;
    println!("installed to slot {}; the next start tries it", booted.other());
    restart(reboot)
}

async fn confirm(booted: Slot, data_dir: &Path) -> anyhow::Result<()> {
    Installer::connect().await?.mark_good().await?;
    Record::confirming(Record::load(data_dir)?, booted).store(data_dir)?;
    println!("slot {booted} is confirmed");
    Ok(())
}

async fn rollback(booted: Slot, data_dir: &Path, reboot: bool) -> anyhow::Result<()> {
    let record = Record::load(data_dir)?;
    match Standing::of(booted, record) {
        Standing::Trial(_) => println!("the trial of slot {booted} ends with the next start"),
        Standing::Confirmed(_) => {
            let fallback = record.is_some_and(|record| record.fallback);
            ensure!(
                fallback,
                "there is nothing to go back to: slot {} holds no system that was confirmed",
                booted.other()
            );
            Installer::connect().await?.try_other().await?;
            println!("the next start tries slot {}", booted.other());
        }
    }
    restart(reboot)
}

/// Asks for a factory reset, which the initramfs does at the next start.
pub fn reset(args: &ResetArgs) -> anyhow::Result<Exit> {
    ensure!(args.yes, "a reset loses the buffer, the secrets and everything that was provisioned; say --yes");
    ensure!(slot::booted().is_some(), "this machine was not started from the image");
    std::fs::write(RESET_WISH, b"").with_context(|| format!("cannot write {RESET_WISH}; are you root?"))?;
    println!("the next start resets this gateway");
    restart(args.reboot)?;
    Ok(Exit::Ok)
}

fn restart(reboot: bool) -> anyhow::Result<()> {
    if !reboot {
        return Ok(());
    }
    let status = Command::new("systemctl").arg("reboot").status().context("systemctl cannot be started")?;
    ensure!(status.success(), "systemctl reboot failed: {status}");
    Ok(())
}
