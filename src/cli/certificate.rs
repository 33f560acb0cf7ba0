//! `frond certificate`: makes a key, and a certificate that vouches for itself, for a listener nobody has brought one for.
//!
//! It encrypts from the first start on. Who it belongs to is known to those who have compared its fingerprint, or who were
//! given the certificate as the root to trust; a site with an authority of its own brings its own files instead.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use sha2::{Digest, Sha256};

use super::exit::Exit;

/// Arguments of `frond certificate`.
#[derive(Debug, Clone, clap::Args)]
pub struct CertificateArgs {
    /// Name that clients connect to: a DNS name, or the gateway's
    #[arg(long)]
    name: String,
    /// Where the certificate goes, PEM; the file must not be there yet
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Where the private key goes, PEM; likewise
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Writes both files and prints the fingerprint, SHA-256, as other tools show it.
pub fn certificate(args: &CertificateArgs) -> anyhow::Result<Exit> {
    let made =
        Made::of(&args.name).with_context(|| format!("no certificate can be made for {:?}", args.name))?;
    write(&args.key, &made.key, 0o600)?;
    write(&args.certificate, &made.certificate, 0o644)?;
    writeln!(std::io::stdout(), "{}", made.fingerprint).context("cannot write the fingerprint")?;
    Ok(Exit::Ok)
}

struct Made {
    certificate: String,
    key: String,
    fingerprint: String,
}

impl Made {
    fn of(name: &str) -> Result<Made, rcgen::Error> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        // No key usage: clients that trust it as a root would ask for the right to sign others, which it must not have.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // The clock may be anywhere at a first start, so it is valid at every time; the end is the one that
        // RFC 5280 (4.1.2.5) gives to certificates without one.
        params.not_before = date_time_ymd(1970, 1, 1);
        params.not_after = date_time_ymd(9999, 12, 31);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let digest = Sha256::digest(certificate.der());
        let bytes: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Ok(Made { certificate: certificate.pem(), key: key.serialize_pem(), fingerprint: bytes.join(":") })
    }
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

    use super::*;
    use crate::config::{ClientCertificates, ListenerTls};
    use crate::ingest::listener::tls;

    #[test]
    fn a_client_that_was_given_the_certificate_trusts_the_listener_and_nobody_else_does() {
        // Goal: what is made serves a listener. Method: files as the command writes them, read as a listener reads them;
        // handshakes in memory with the certificate as the only root, under its name and under another.
        let folder = tempfile::tempdir().unwrap();
        let args = CertificateArgs {
            name: "press-hall-3".to_owned(),
            certificate: folder.path().join("mqtt.pem"),
            key: folder.path().join("mqtt-key.pem"),
        };
        assert_eq!(certificate(&args).unwrap(), Exit::Ok);
        assert!(certificate(&args).is_err(), "what is there is never overwritten");
        let files = ListenerTls {
            certificate: args.certificate.clone(),
            key: args.key.clone(),
            clients: ClientCertificates::None,
        };
        assert_eq!(shake(&files, "press-hall-3"), Ok(()));
        assert!(shake(&files, "press-hall-4").is_err());
    }

    fn shake(files: &ListenerTls, name: &'static str) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&files.certificate).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client =
            ClientConnection::new(Arc::new(client), ServerName::try_from(name).unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::new(tls::load(files).unwrap())).unwrap();
        while client.is_handshaking() {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }
}
