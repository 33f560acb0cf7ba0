//! `frond link`, `config`, `label`, `provider` and `history`, and `frond component ls` and `rm`: what is desired of
//! this gateway, on the gateway itself, with or without a lattice.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::exit::Exit;
use super::output;
use super::status::GatewayArgs;
use crate::console::{self, Request};
use crate::control::bounds::HISTORY_ROWS_MAX;
use crate::control::{
    Command, Component, Desired, Item, Key, Link, LinkKey, Origin, Overview, Pairs, Provenance, Provider,
    Replacing, Told,
};
use crate::runtime::Answer;

/// Links between components and providers.
#[derive(Debug, Subcommand)]
pub enum LinkCommand {
    /// All links, and what is wrong with them
    Ls(LsArgs),
    /// Link a component with a provider
    Put(PutLinkArgs),
    /// Take a link away
    Rm(RmLinkArgs),
}

/// Named configurations.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// All configurations with their values
    Ls(LsArgs),
    /// Give a configuration these values and no others
    Put {
        /// Its name
        name: String,
        /// Its values
        #[arg(value_name = "KEY=VALUE")]
        values: Vec<String>,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Take a configuration away
    Rm {
        /// Its name
        name: String,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

/// Labels of the gateway, by which controllers place work.
#[derive(Debug, Subcommand)]
pub enum LabelCommand {
    /// All labels
    Ls(LsArgs),
    /// Set a label
    Put {
        /// The label
        #[arg(value_name = "KEY=VALUE")]
        label: String,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Take a label away
    Rm {
        /// Its name
        key: String,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

/// Providers: what links lead to.
#[derive(Debug, Subcommand)]
pub enum ProviderCommand {
    /// All providers
    Ls(LsArgs),
    /// Have a provider, such as frond+builtin://mqtt
    Put {
        /// What links call it
        id: String,
        /// Which
        reference: String,
        /// A configuration that its links begin with; once for each
        #[arg(long, value_name = "CONFIGURATION")]
        with: Vec<String>,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Have it no longer
    Rm {
        /// What links call it
        id: String,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

/// Arguments of `frond component rm`.
#[derive(Debug, clap::Args)]
pub struct RmComponentArgs {
    /// What links call it
    id: String,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// Arguments of a list.
#[derive(Debug, clap::Args)]
pub struct LsArgs {
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `frond link put`.
#[derive(Debug, clap::Args)]
pub struct PutLinkArgs {
    /// Where calls come from
    source: String,
    /// Where they go
    target: String,
    /// Of the interfaces, such as wasi:keyvalue
    #[arg(value_name = "NAMESPACE:PACKAGE")]
    package: String,
    /// Interfaces of the package; once for each
    #[arg(long = "interface", required = true)]
    interfaces: Vec<String>,
    /// Name of the link
    #[arg(long, default_value = "default")]
    name: String,
    /// A configuration for the source; once for each
    #[arg(long)]
    source_config: Vec<String>,
    /// A configuration for the target; once for each
    #[arg(long)]
    target_config: Vec<String>,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// Arguments of `frond link rm`.
#[derive(Debug, clap::Args)]
pub struct RmLinkArgs {
    /// Where calls come from
    source: String,
    /// Of the interfaces
    #[arg(value_name = "NAMESPACE:PACKAGE")]
    package: String,
    /// Name of the link
    #[arg(long, default_value = "default")]
    name: String,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// Arguments of `frond history`.
#[derive(Debug, clap::Args)]
pub struct HistoryArgs {
    /// How many of the newest changes
    #[arg(long, default_value_t = 20)]
    count: u32,
    #[command(flatten)]
    list: LsArgs,
}

/// `frond link`.
pub async fn link(command: LinkCommand) -> anyhow::Result<Exit> {
    match command {
        LinkCommand::Ls(args) => {
            let overview = overview(&args.gateway).await?;
            if args.json {
                output::line(serde_json::to_string_pretty(&links_in_json(&overview))?);
                return Ok(Exit::Ok);
            }
            for (key, item) in &overview.desired.links {
                let key = Key::Link(key.clone());
                output::entry(link_line(&item.spec, &origin(&overview, &key, item.origin), item.revision));
                for (link, why) in overview.troubles.iter().filter(|(link, _)| *link == item.spec) {
                    output::entry(format_args!("  trouble: {why}, link {}", link.name));
                }
            }
            for key in pending(&overview) {
                if let Key::Link(link) = key
                    && !overview.desired.links.contains_key(link)
                {
                    let LinkKey { source_id, wit_namespace, wit_package, name, target } = link;
                    output::entry(format_args!(
                        "{source_id} -> {target} {wit_namespace}:{wit_package} \"{name}\" is taken away (site, pending)"
                    ));
                }
            }
            Ok(Exit::Ok)
        }
        LinkCommand::Put(args) => {
            let (wit_namespace, wit_package) = package(&args.package)?;
            let link = Link {
                source_id: args.source,
                target: args.target,
                name: args.name,
                wit_namespace,
                wit_package,
                interfaces: args.interfaces,
                source_config: args.source_config,
                target_config: args.target_config,
            };
            say(&args.gateway, Command::PutLink { link }).await
        }
        LinkCommand::Rm(args) => {
            let (wit_namespace, wit_package) = package(&args.package)?;
            let command =
                Command::DeleteLink { source_id: args.source, name: args.name, wit_namespace, wit_package };
            say(&args.gateway, command).await
        }
    }
}

/// `frond config`.
pub async fn config(command: ConfigCommand) -> anyhow::Result<Exit> {
    match command {
        ConfigCommand::Ls(args) => {
            let overview = overview(&args.gateway).await?;
            if args.json {
                output::line(serde_json::to_string_pretty(&configs_in_json(&overview))?);
                return Ok(Exit::Ok);
            }
            for (name, item) in &overview.desired.configs {
                let origin = origin(&overview, &Key::Config(name.clone()), item.origin);
                output::entry(format_args!("{name} ({origin}, revision {})", item.revision));
                item.spec.iter().for_each(|(key, value)| output::entry(format_args!("  {key} = {value}")));
            }
            for key in pending(&overview) {
                if let Key::Config(name) = key
                    && !overview.desired.configs.contains_key(name)
                {
                    output::entry(format_args!("{name} is taken away (site, pending)"));
                }
            }
            Ok(Exit::Ok)
        }
        ConfigCommand::Put { name, values, gateway } => {
            let values: Pairs = values.iter().map(|text| pair(text)).collect::<anyhow::Result<_>>()?;
            say(&gateway, Command::PutConfig { name, values }).await
        }
        ConfigCommand::Rm { name, gateway } => say(&gateway, Command::DeleteConfig { name }).await,
    }
}

/// `frond label`.
pub async fn label(command: LabelCommand) -> anyhow::Result<Exit> {
    match command {
        LabelCommand::Ls(args) => {
            let overview = overview(&args.gateway).await?;
            if args.json {
                let labels = overview.labels.iter().map(|(key, value)| {
                    (key.clone(), json!({ "value": value, "origin": label_origin(&overview, key) }))
                });
                output::line(serde_json::to_string_pretty(&labels.collect::<Map<_, _>>())?);
                return Ok(Exit::Ok);
            }
            for (key, value) in &overview.labels {
                output::entry(format_args!("{key} = {value} ({})", label_origin(&overview, key).word()));
            }
            Ok(Exit::Ok)
        }
        LabelCommand::Put { label, gateway } => {
            let (key, value) = pair(&label)?;
            say(&gateway, Command::PutLabel { key, value }).await
        }
        LabelCommand::Rm { key, gateway } => say(&gateway, Command::DeleteLabel { key }).await,
    }
}

/// `frond provider`.
pub async fn provider(command: ProviderCommand) -> anyhow::Result<Exit> {
    match command {
        ProviderCommand::Ls(args) => {
            let Overview { desired, .. } = overview(&args.gateway).await?;
            if args.json {
                output::line(serde_json::to_string_pretty(&providers_in_json(&desired))?);
                return Ok(Exit::Ok);
            }
            for (id, item) in &desired.providers {
                let (origin, revision) = (item.origin.word(), item.revision);
                output::entry(format_args!("{id} {} ({origin}, revision {revision})", item.spec.reference));
                list_configurations(&item.spec.config);
                if let Some(why) = provider_trouble(&desired, &item.spec) {
                    output::entry(format_args!("  trouble: {why}"));
                }
            }
            Ok(Exit::Ok)
        }
        ProviderCommand::Put { id, reference, with, gateway } => {
            let provider = Provider { reference, config: with, annotations: Pairs::new() };
            say(&gateway, Command::StartProvider { id, provider }).await
        }
        ProviderCommand::Rm { id, gateway } => say(&gateway, Command::StopProvider { id }).await,
    }
}

/// `frond component rm`.
pub async fn remove_component(args: RmComponentArgs) -> anyhow::Result<Exit> {
    let (component, replacing) = (Component::default(), Replacing::NotAllowed);
    let command = Command::Scale { id: args.id, component, replacing };
    say(&args.gateway, command).await
}

/// `frond component ls`.
pub async fn components(args: LsArgs) -> anyhow::Result<Exit> {
    let components = overview(&args.gateway).await?.components;
    if args.json {
        output::line(serde_json::to_string_pretty(&components)?);
        return Ok(Exit::Ok);
    }
    for component in &components {
        let origin = component.origin.word();
        output::entry(format_args!(
            "{} {} ({origin}): {}",
            component.id, component.reference, component.state
        ));
        list_configurations(&component.config);
        if let Some(Provenance { digest, signer, claims }) = &component.provenance {
            let by = match (signer, claims) {
                (Some(signer), _) => format!("signed by {signer}"),
                (None, Some(claims)) => format!("signed by {}, whom nobody here trusts", claims.issuer),
                (None, None) => "signed by nobody".to_owned(),
            };
            output::entry(format_args!("  sha256:{digest}, {by}"));
        }
        if let Some(reason) = &component.reason {
            output::entry(format_args!("  {reason}"));
        }
        if let Some(former) = &component.former {
            output::entry(format_args!("  on probation; {former} is back should it fail"));
        }
    }
    Ok(Exit::Ok)
}

/// `frond history`.
pub async fn history(args: HistoryArgs) -> anyhow::Result<Exit> {
    let newest = args.count.min(HISTORY_ROWS_MAX);
    let mut lines: Vec<Told> =
        console::ask(&args.list.gateway.socket()?, Request::History { newest }).await?;
    lines.reverse();
    if args.list.json {
        output::line(serde_json::to_string_pretty(&lines)?);
        return Ok(Exit::Ok);
    }
    for line in &lines {
        let at =
            Timestamp::from_nanosecond(i128::from(line.at)).map_or(String::new(), |at| format!("{at:.0}"));
        let origin = line.origin.map_or("unknown", |origin| origin.word());
        output::entry(format_args!("{:>6}  {at}  {origin:<10} {}", line.revision, line.text));
    }
    Ok(Exit::Ok)
}

/// What a gateway is to run, and how that fares.
pub(super) async fn overview(gateway: &GatewayArgs) -> anyhow::Result<Overview> {
    Ok(console::ask(&gateway.socket()?, Request::Overview).await?)
}

/// Gives a command and prints the answer.
pub(super) async fn say(gateway: &GatewayArgs, command: Command) -> anyhow::Result<Exit> {
    let before = overview(gateway).await?;
    let request = Request::Control { command: command.clone() };
    match console::ask(&gateway.socket()?, request).await? {
        Answer::Done(what) => {
            output::entry(done(&before, &command, what));
            Ok(Exit::Ok)
        }
        Answer::Refused(why) => {
            eprintln!("frond: {why}");
            Ok(Exit::Failure)
        }
    }
}

/// What is said of a command that was obeyed. The lattice's own answers, which its clients know, do not tell whether what is
/// taken away was there.
fn done(before: &Overview, command: &Command, answer: String) -> String {
    // Of a shared lattice a gateway holds what it needs: what it does not hold may be there.
    let is_all_here = before.copy.is_none();
    let Desired { components, links, configs, .. } = &before.desired;
    match command {
        Command::Scale { id, component, .. } if component.limit == 0 => match components.contains_key(id) {
            true => "gone".to_owned(),
            false => format!("there is no component {id}"),
        },
        Command::DeleteConfig { name } if is_all_here && !configs.contains_key(name) => {
            format!("there is no configuration {name}")
        }
        Command::DeleteLink { source_id, name, wit_namespace, wit_package } if is_all_here => {
            let asked = (source_id, name, wit_namespace, wit_package);
            let is_it =
                |key: &LinkKey| (&key.source_id, &key.name, &key.wit_namespace, &key.wit_package) == asked;
            match links.keys().any(is_it) {
                true => answer,
                false => format!("there is no link {name} of {source_id} ({wit_namespace}:{wit_package})"),
            }
        }
        // A component is put to work after the answer.
        _ if answer.is_empty() => "kept".to_owned(),
        _ => answer,
    }
}

/// What was changed on site and is not at the hub of a shared lattice yet.
fn pending(overview: &Overview) -> impl Iterator<Item = &Key> {
    overview.copy.iter().flat_map(|copy| &copy.pending)
}

/// All links with what is wrong with them, and those that were taken away and are pending.
fn links_in_json(overview: &Overview) -> Vec<Value> {
    let links = overview.desired.links.iter().map(|(key, item)| {
        let trouble = overview.troubles.iter().find(|(link, _)| *link == item.spec).map(|(_, why)| why);
        let mut link = in_json(overview, &Key::Link(key.clone()), item);
        link["trouble"] = json!(trouble);
        link
    });
    let gone = pending(overview).filter_map(|key| match key {
        Key::Link(link) if !overview.desired.links.contains_key(link) => {
            Some(json!({ "taken_away": link, "origin": Origin::Site, "pending": true }))
        }
        _ => None,
    });
    links.chain(gone).collect()
}

/// All configurations, and those that were taken away and are pending, without content.
fn configs_in_json(overview: &Overview) -> Map<String, Value> {
    let configs = overview.desired.configs.iter();
    let configs =
        configs.map(|(name, item)| (name.clone(), in_json(overview, &Key::Config(name.clone()), item)));
    let gone = pending(overview).filter_map(|key| match key {
        Key::Config(name) if !overview.desired.configs.contains_key(name) => {
            Some((name.clone(), json!({ "taken_away": name, "origin": Origin::Site, "pending": true })))
        }
        _ => None,
    });
    configs.chain(gone).collect()
}

/// All providers with what is wrong with them.
fn providers_in_json(desired: &Desired) -> Map<String, Value> {
    let providers = desired.providers.iter().map(|(id, item)| {
        let mut provider = serde_json::to_value(item).expect("texts, numbers and lists of them are JSON");
        provider["trouble"] = json!(provider_trouble(desired, &item.spec));
        (id.clone(), provider)
    });
    providers.collect()
}

fn provider_trouble(desired: &Desired, provider: &Provider) -> Option<String> {
    desired.merged(&provider.config).err()
}

fn in_json<T: Serialize>(overview: &Overview, key: &Key, item: &Item<T>) -> Value {
    let mut value = serde_json::to_value(item).expect("texts, numbers and lists of them are JSON");
    value["pending"] = json!(pending(overview).any(|other| other == key));
    value
}

fn label_origin(overview: &Overview, key: &str) -> Origin {
    overview.desired.labels.get(key).map_or(Origin::LocalFile, |item| item.origin)
}

/// Whose word it is, and whether the lattice has it.
fn origin(overview: &Overview, key: &Key, origin: Origin) -> String {
    match pending(overview).any(|other| other == key) {
        true => format!("{}, pending", origin.word()),
        false => origin.word().to_owned(),
    }
}

fn package(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once(':') {
        Some((namespace, package)) => Ok((namespace.to_owned(), package.to_owned())),
        None => bail!("{text:?} is not NAMESPACE:PACKAGE, such as wasi:keyvalue"),
    }
}

fn pair(text: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = text.split_once('=').with_context(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn list_configurations(names: &[String]) {
    if !names.is_empty() {
        output::entry(format_args!("  configurations {}", names.join(",")));
    }
}

fn link_line(link: &Link, origin: &str, revision: u64) -> String {
    let list = |names: &[String]| if names.is_empty() { "-".to_owned() } else { names.join(",") };
    format!(
        "{} -> {} {}:{}/{} \"{}\", configurations {} -> {} ({origin}, revision {revision})",
        link.source_id,
        link.target,
        link.wit_namespace,
        link.wit_package,
        link.interfaces.join(","),
        link.name,
        list(&link.source_config),
        list(&link.target_config)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Change, Shared, Spec};

    fn overview(changes: &[Change], copy: Option<Shared>) -> Overview {
        let mut desired = Desired::default();
        changes.iter().for_each(|change| desired.make(change, 1, Origin::Site));
        Overview { desired, labels: Pairs::new(), components: Vec::new(), troubles: Vec::new(), copy }
    }

    #[test]
    fn whoever_takes_away_what_is_not_there_is_told_so() {
        // Goal: a slip of the pen is no success. Method: each kind, there and not; in a shared lattice, which may have more
        // than this gateway; a component that is put.
        let scale = |id: &str, limit| Command::Scale {
            id: id.into(),
            component: Component { limit, ..Component::default() },
            replacing: Replacing::Allowed,
        };
        let config = |name: &str| Command::DeleteConfig { name: name.into() };
        let link = Link { source_id: "press".into(), name: "v".into(), ..Link::default() };
        let unlink = |source: &str| Command::DeleteLink {
            source_id: source.into(),
            name: "v".into(),
            wit_namespace: String::new(),
            wit_package: String::new(),
        };
        let all = [
            Change::Put(Key::Component("press".into()), Spec::Component(Component::default())),
            Change::Put(Key::Config("small".into()), Spec::Config(Pairs::new())),
            Change::Put(Key::Link(link.key()), Spec::Link(link)),
        ];
        let said = |command: &Command, answer: &str| done(&overview(&all, None), command, answer.into());
        assert_eq!(said(&scale("press", 0), ""), "gone");
        assert_eq!(said(&scale("none", 0), ""), "there is no component none");
        assert_eq!(said(&scale("none", 1), ""), "kept");
        assert_eq!(said(&config("small"), "deleted"), "deleted");
        assert_eq!(said(&config("none"), "deleted"), "there is no configuration none");
        assert_eq!(said(&unlink("press"), "deleted"), "deleted");
        assert_eq!(said(&unlink("none"), "deleted"), "there is no link v of none (:)");
        let shared = overview(&all, Some(Shared::default()));
        assert_eq!(done(&shared, &config("none"), "deleted".into()), "deleted");
    }

    #[test]
    fn a_provider_whose_configuration_is_missing_is_shown_with_that() {
        // Goal: what was accepted and does nothing is seen. Method: a provider with a configuration that is there and with one
        // that is not.
        let provider = |name: &str| Provider { config: vec![name.into()], ..Provider::default() };
        let all = [
            Change::Put(Key::Config("small".into()), Spec::Config(Pairs::new())),
            Change::Put(Key::Provider("sound".into()), Spec::Provider(provider("small"))),
            Change::Put(Key::Provider("p3".into()), Spec::Provider(provider("nothere"))),
        ];
        let providers = providers_in_json(&overview(&all, None).desired);
        assert_eq!(providers["sound"]["trouble"], Value::Null);
        assert_eq!(providers["p3"]["trouble"], "there is no configuration nothere");
        assert_eq!(providers["p3"]["spec"]["config"], json!(["nothere"]));
    }
}
