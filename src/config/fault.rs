//! Everything that can be wrong with a configuration ([`Fault`]) or looks unintended ([`Doubt`]), with its message.
//!
//! A message says what is wrong and, where it is not plain, what to do. It does not repeat the place or the key, which
//! [`super::diagnose::Finding`] prints before it.

use std::path::PathBuf;

use super::SOCKET_PATH_MAX;

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file could not be read.
    #[error("the file cannot be read: {}", reason(*kind))]
    Unreadable {
        /// What the operating system said.
        kind: std::io::ErrorKind,
    },
    /// The file is larger than any configuration should be.
    #[error("the file is larger than {bytes_max} bytes")]
    FileTooLarge {
        /// The bound.
        bytes_max: u64,
    },
    /// The file is not text.
    #[error("the file is not UTF-8 text")]
    NotText,
    /// There are too many files in `conf.d`.
    #[error("{count} files are here, at most {count_max} are read")]
    TooManyFiles {
        /// How many.
        count: usize,
        /// The bound.
        count_max: usize,
    },
    /// Not TOML.
    #[error("{message}")]
    Syntax {
        /// The parser's words.
        message: String,
    },
    /// The same name twice in one file.
    #[error("this name is taken on line {line}; give one of the two another name")]
    Duplicate {
        /// Where the first one is.
        line: u32,
    },
    /// A key that does not exist.
    #[error("unknown key '{key}'{}", hint(*nearest, known))]
    UnknownKey {
        /// The key.
        key: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
        /// The keys there are.
        known: &'static [&'static str],
    },
    /// A word where only some words are taken.
    #[error("unknown word '{word}'{}", hint(*nearest, known))]
    UnknownWord {
        /// The word.
        word: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
        /// The words there are.
        known: &'static [&'static str],
    },
    /// A value of the wrong type, or one that does not have the form it must have.
    #[error("{found} is not {expected}")]
    WrongValue {
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// A value that its type refuses for a reason of its own.
    #[error("{message}")]
    Refused {
        /// The reason.
        message: String,
    },
    /// A key that must be set.
    #[error("'{key}' is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A number, duration or size outside its bounds.
    #[error("{value} is outside {least} to {most}")]
    Range {
        /// What was said.
        value: String,
        /// Lower bound, still allowed.
        least: String,
        /// Upper bound, still allowed.
        most: String,
    },
    /// A value that must not be below another one.
    #[error("{value} is less than {other}, which is {least}")]
    Below {
        /// What was said.
        value: String,
        /// The other key.
        other: &'static str,
        /// Its value.
        least: String,
    },
    /// MQTT counts its keep-alive in seconds.
    #[error("{value} is not a whole number of seconds")]
    WholeSeconds {
        /// What was said.
        value: String,
    },
    /// Too many of something.
    #[error("{count} are too many, at most {count_max} are taken")]
    TooMany {
        /// How many.
        count: usize,
        /// The bound.
        count_max: usize,
    },
    /// Not a name.
    #[error("'{name}' is not a name: 1 to 64 of A-Z a-z 0-9 _ -")]
    Name {
        /// What was said.
        name: String,
    },
    /// The gateway has no name and the host none that could stand in.
    #[error("the gateway has no name and the host name cannot stand in for it; set gateway.name")]
    NoName,
    /// Text that is empty, too long, or contains control characters.
    #[error("must be 1 to {chars_max} characters without control characters")]
    Text {
        /// The bound.
        chars_max: usize,
    },
    /// Not the name of a label.
    #[error("'{name}' is not the name of a label: 1 to 64 of A-Z a-z 0-9 _ - .")]
    LabelName {
        /// What was said.
        name: String,
    },
    /// The cache may be emptied at any time, and the databases would be in it.
    #[error("the cache may be deleted at any time and must not contain gateway.data_dir")]
    DataInCache,
    /// The local socket would have a longer name than the kernel takes.
    #[error("the path of the local socket in it has {bytes} bytes, and the kernel takes {SOCKET_PATH_MAX}")]
    RunDirTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A stream without topics.
    #[error("needs topics = [\"…\"], at least one topic filter")]
    NoTopics,
    /// Not an MQTT topic filter.
    #[error("'{filter}' is not a topic filter: {fault}")]
    Filter {
        /// What was said.
        filter: String,
        /// Why not.
        fault: FilterFault,
    },
    /// Not a template.
    #[error("'{template}' is not a template: {fault}")]
    Template {
        /// What was said.
        template: String,
        /// Why not.
        fault: TemplateFault,
    },
    /// A key that means nothing with the stream's `decode`.
    #[error("means nothing with decode = \"{decode}\"; {instead}")]
    NotWithDecode {
        /// How the stream is decoded.
        decode: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// `decode = "packed"` without saying what is packed.
    #[error("decode = \"packed\" needs packed = {{ sample = …, rate = … }}")]
    PackedMissing,
    /// The component does not exist.
    #[error("there is no component '{name}'{}", hint_open(nearest.as_deref()))]
    NoComponent {
        /// What was said.
        name: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A component for wasmCloud that no message and no request ever reaches.
    #[error(
        "nothing would ever call it; add [[component.link]] with interface = \"wasmcloud:messaging/handler\" or \
         \"wasi:http/incoming-handler\""
    )]
    NeverCalled,
    /// A key of another kind of component.
    #[error("means nothing without kind = \"wasmcloud\"")]
    NotWithKind,
    /// A key of telemetry processors.
    #[error("means nothing with kind = \"wasmcloud\": it gets messages, and no readings")]
    OnlyTelemetry,
    /// The wrong end of a link.
    #[error("means nothing with this interface; {instead} does")]
    OtherEnd {
        /// The other end.
        instead: &'static str,
    },
    /// Not a label of a host.
    #[error(
        "'{name}' is no label: 1 to 64 of A-Z a-z 0-9 _ - ., and those of hostcore. say what the machine is"
    )]
    HostLabel {
        /// What was said.
        name: String,
    },
    /// Not the host of a registry.
    #[error("'{host}' is not a registry: its host as references name it, such as ghcr.io or 10.0.0.5:5000")]
    RegistryHost {
        /// What was said.
        host: String,
    },
    /// Not a public key. It is not repeated: it may be the wrong half of a pair.
    #[error(
        "this is not a public key: A… of 56 characters, as nkeys have accounts, or the line of openssl pkey -pubout that \
         begins with MCowBQYDK2VwAyEA"
    )]
    SignerKey,
    /// Two signers are one.
    #[error("is the key of signer {other:?}, too")]
    SameKey {
        /// The other.
        other: String,
    },
    /// A signer that is not there.
    #[error("there is no [[signer]] {name:?}")]
    NoSigner {
        /// Who.
        name: String,
    },
    /// Not a NATS subject.
    #[error("'{subject}' is not a subject: tokens without spaces, with a '.' between them")]
    Subject {
        /// What was said.
        subject: String,
    },
    /// Not a host that a component may ask by HTTP.
    #[error(
        "'{host}' is not a host: a name or an address, with a port if need be, and http:// before it for one without TLS"
    )]
    HttpHost {
        /// What was said.
        host: String,
    },
    /// Somebody else listens there.
    #[error("{by} listens there already")]
    AddressTaken {
        /// Who.
        by: String,
    },
    /// The device does not exist.
    #[error("there is no device '{name}'{}", hint_open(nearest.as_deref()))]
    NoDevice {
        /// What was said.
        name: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// Two owners of one thing.
    #[error("is what device {other:?} is already; name that one in both links")]
    SameDevice {
        /// Its name.
        other: String,
    },
    /// A key of another kind of device.
    #[error("means nothing with this kind of device; its keys are name, kind, timeout, {keys}")]
    NotWithDevice {
        /// Those that do.
        keys: String,
    },
    /// Not where something listens.
    #[error("'{address}' is not a host with or without a port, such as 10.0.0.7 or meter.plant:502")]
    HostAndPort {
        /// What was said.
        address: String,
    },
    /// A level for a line that is only read.
    #[error("means nothing without direction = \"out\"")]
    InitialOfInput,
    /// A timer that something should be published to.
    #[error("nothing can be published to a timer; it belongs to interface = \"wasmcloud:messaging/handler\"")]
    TimerTarget,
    /// Two timers whose messages could not be told apart.
    #[error(
        "this component has another timer {name:?}, and their messages could not be told apart; name them"
    )]
    SameTimer {
        /// The name of their links.
        name: String,
    },
    /// MQTT links without MQTT.
    #[error("a link has provider = \"mqtt\", and there is neither a [[listener]] nor mqtt.broker.url")]
    NoDoor,
    /// Senders cannot be held back where nothing is acknowledged late.
    #[error("full = \"reject\" withholds acknowledgements, and with {because} there are none to withhold")]
    NothingToWithhold {
        /// The setting that contradicts.
        because: &'static str,
    },
    /// A packet must hold the largest payload with its topic.
    #[error(
        "{value} is too small: stream {stream:?} takes payloads of {payload} bytes, which with topic and header need {least}"
    )]
    PacketTooSmall {
        /// What was said.
        value: u64,
        /// The stream with the largest payloads.
        stream: String,
        /// Its `payload_bytes_max`.
        payload: usize,
        /// What is needed.
        least: u64,
    },
    /// Not a URL of the form the key takes.
    #[error("'{url}' is not a URL of the form {form}")]
    Url {
        /// What was said.
        url: String,
        /// The form.
        form: &'static str,
    },
    /// A password in a URL would be a secret in a configuration file.
    #[error("a URL must not hold a user or password; {instead}")]
    UserInUrl {
        /// What to do.
        instead: &'static str,
    },
    /// The broker door has no TLS.
    #[error(
        "the broker door speaks plain MQTT to a broker on this machine or site and has no TLS: use mqtt://, and reach a \
         remote broker through a bridge of the local one"
    )]
    Mqtts,
    /// The hub would be reached without encryption.
    #[error("would cross the network without encryption: use tls://, or set {allow} = true")]
    Plaintext {
        /// The key that allows it.
        allow: &'static str,
    },
    /// The leaf must not be reachable from outside: it asks local clients for nothing.
    #[error("'{listen}' is not a loopback address with a port, such as 127.0.0.1:4222")]
    Listen {
        /// What was said.
        listen: String,
    },
    /// MQTT has no password without a user name.
    #[error("needs mqtt.broker.username: MQTT has no password without a user name")]
    PasswordAlone,
    /// A client certificate has two files.
    #[error("needs lattice.direct.{other} beside it")]
    CertificateHalf {
        /// The other key.
        other: &'static str,
    },
    /// Not an address with a port.
    #[error("'{bind}' is not an address with a port, such as 127.0.0.1:1883, 0.0.0.0:8883 or [::]:8883")]
    Bind {
        /// What was said.
        bind: String,
    },
    /// Two sockets cannot have one address.
    #[error("listener {other:?} has the same address")]
    SameBind {
        /// Whose it is.
        other: String,
    },
    /// A rule about certificates without anything to check them with.
    #[error("needs client_ca beside it: without roots no client certificate can be checked")]
    NoClientCa,
    /// Not a user name: it stands in topics.
    #[error(
        "'{name}' is not the name of a user: 1 to {chars_max} characters, no '/', '+' or '#', no '$' in front"
    )]
    UserName {
        /// What was said.
        name: String,
        /// The bound.
        chars_max: usize,
    },
    /// A user nobody can be.
    #[error("needs password_hash_file or certificate: nobody could log in")]
    NoProof,
    /// The anonymous user has rules and nothing to log in with.
    #[error("means nothing for \"anonymous\", which stands for clients that log in with nothing")]
    AnonymousProof,
    /// One certificate for two users.
    #[error("the certificate already stands for user {other:?}")]
    SameCertificate {
        /// Whose it is.
        other: String,
    },
    /// Too many problems to list.
    #[error("there are more problems; mend these first")]
    More,
}

/// Why something is not an MQTT topic filter (MQTT 3.1.1, 4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterFault {
    /// At least one character is needed.
    #[error("it is empty")]
    Empty,
    /// The length field has 16 bits.
    #[error("it is longer than 65,535 bytes")]
    Long,
    /// NUL is forbidden.
    #[error("it contains a NUL")]
    Nul,
    /// `#` stands for the rest.
    #[error("'#' must be the last level")]
    HashNotLast,
    /// A wildcard takes a whole level.
    #[error("a wildcard must be a whole level, as in a/+/b or a/#")]
    WildcardNotAlone,
    /// Nobody but a broker publishes there.
    #[error("topics that begin with '$' are a broker's own")]
    Dollar,
    /// Readings would be shared with other subscribers.
    #[error("shared subscriptions ($share) would give readings to somebody else")]
    Shared,
}

/// Why something is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// Too long.
    #[error("it is longer than {chars_max} characters")]
    Long {
        /// The bound.
        chars_max: usize,
    },
    /// `{` without `}`, or the other way round.
    #[error("a brace has no partner")]
    Brace,
    /// Not a placeholder.
    #[error("unknown placeholder {{{name}}}{}", hint_open(*nearest))]
    Placeholder {
        /// What was said.
        name: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// Labels belong to the series, not to one field.
    #[error("{{field}} cannot stand in a label")]
    FieldInLabel,
    /// The topic never has that level.
    #[error("there is no level {level} in topics of '{filter}', levels count from 0")]
    Level {
        /// The level.
        level: usize,
        /// The filter.
        filter: String,
    },
    /// Control characters would end up in names.
    #[error("it contains a control character")]
    Control,
}

/// What is allowed and probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// An earlier stream takes all of it.
    #[error("'{filter}' never gets here: stream {stream:?} comes first and takes '{by}'")]
    Shadowed {
        /// The filter.
        filter: String,
        /// The earlier stream.
        stream: String,
        /// Its filter.
        by: String,
    },
    /// All fields of a payload would be one series.
    #[error("without {{field}} all fields of a payload become one series")]
    FieldsMixed,
    /// The stream cannot take more than there is.
    #[error("is more than outbox.bytes_max, which comes first")]
    CapAboveOutbox,
    /// Nothing refers to it.
    #[error("no stream uses this component")]
    UnusedComponent,
    /// Settings of a mode that is not selected.
    #[error("is not used while lattice.mode is \"{mode}\"")]
    UnusedMode {
        /// The mode.
        mode: &'static str,
    },
    /// Nothing will leave.
    #[error("lattice.leaf.hub is not set: everything stays in the buffer on this gateway")]
    NoHub,
    /// Nothing will arrive.
    #[error("there are streams, no listener and no mqtt.broker.url: nothing is received")]
    NoDoor,
    /// Nothing will move.
    #[error("there are no listener and no mqtt.broker.url: its commands reach nothing")]
    CommandsNowhere,
    /// Something moves by itself.
    #[error("what it commands to '{filter}' comes back as readings of stream {stream:?}, which takes '{by}'")]
    CommandsBack {
        /// Where it commands.
        filter: String,
        /// Who takes it.
        stream: String,
        /// By which filter.
        by: String,
    },
    /// What is old looks new.
    #[error(
        "readings of stream {stream:?} have no time of their own: what waited in a sensor or a broker moves things when it comes, however \
         late; set time, and let the component look at it"
    )]
    CommandsLate {
        /// The stream.
        stream: String,
    },
    /// Nobody is asked who they are.
    #[error("whoever reaches {bind} may enter without a password")]
    AnonymousFromAfar {
        /// Where.
        bind: std::net::SocketAddr,
    },
    /// Whoever is on the network may ask a component.
    #[error("whoever reaches {address} may ask this component: the gateway asks for no password")]
    AskedFromAfar {
        /// Where.
        address: std::net::SocketAddr,
    },
    /// Passwords come over the network.
    #[error("passwords come to {bind} without encryption; set tls")]
    PasswordsInClear {
        /// Where.
        bind: std::net::SocketAddr,
    },
    /// A door without a key.
    #[error(
        "nobody may enter: there is no [[user]], and anonymous clients are not let in from where they can come"
    )]
    NobodyEnters,
    /// A listener for a network that nobody from there may enter.
    #[error(
        "listens on {bind}, and lets in nobody but anonymous clients of this machine: no [[user]] can log in here; bind \
         127.0.0.1, or add users"
    )]
    NobodyFromAfar {
        /// Its address.
        bind: std::net::SocketAddr,
    },
    /// Users that cannot prove themselves where they can come.
    #[error("nobody may enter: users have certificates only, and this listener has no tls with client_ca")]
    NobodyProves,
    /// A user without a right.
    #[error("may neither publish nor subscribe; set publish or subscribe")]
    UserWithoutRules,
    /// A user that could only come with a certificate, and no listener looks at them.
    #[error("no listener has tls with client_ca: the certificate is never looked at")]
    CertificateUnused,
    /// A password goes over the network.
    #[error("the password goes to {host} without encryption")]
    PasswordInClear {
        /// Where.
        host: String,
    },
    /// Whoever may start components may run anything.
    #[error(
        "components that nobody trusted has signed run, too: whoever may publish on the lattice may run code here"
    )]
    Unsigned,
    /// More is written than the flash is meant to take.
    #[error("the streams are expected to write {expected} a day, more than the budget of {budget}")]
    OverBudget {
        /// Expected.
        expected: String,
        /// Allowed.
        budget: String,
    },
    /// A file is not there, or not to be read by this process.
    #[error("'{}' cannot be read: {}", path.display(), reason(*kind))]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        kind: std::io::ErrorKind,
    },
    /// A device file is not there, or not to be used by this process.
    #[error(
        "'{}' cannot be used from here: {}; the service reaches only what a drop-in with DeviceAllow names, see README",
        path.display(),
        reason(*kind)
    )]
    Device {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        kind: std::io::ErrorKind,
    },
    /// A folder cannot be made there.
    #[error("the folder cannot be made: '{}' is a file", path.display())]
    NotAFolder {
        /// What is in its way.
        path: PathBuf,
    },
    /// A secret file with nothing in it.
    #[error("'{}' is empty", path.display())]
    FileEmpty {
        /// Which.
        path: PathBuf,
    },
    /// Everybody can read a secret.
    #[error("'{}' can be read by every user of this machine; chmod o-rwx it", path.display())]
    SecretOpen {
        /// Which.
        path: PathBuf,
    },
    /// Only the service knows where its credentials are.
    #[error("'{}' does not exist, and the service's credentials are not known here: not checked", path.display())]
    CredentialUnknown {
        /// Which.
        path: PathBuf,
    },
}

/// What the operating system said, in words for whoever wrote the file's name.
fn reason(kind: std::io::ErrorKind) -> String {
    match kind {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        kind => kind.to_string(),
    }
}

/// `; did you mean 'x'?`, or what there is to choose from.
fn hint(nearest: Option<&str>, known: &[&str]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean '{nearest}'?"),
        None => format!("; known are {}", known.join(", ")),
    }
}

/// `; did you mean 'x'?`, or nothing.
fn hint_open(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean '{nearest}'?"))
}
