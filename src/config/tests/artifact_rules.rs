//! What `[artifacts]`, `[[registry]]`, `[[signer]]` and `[[secret]]` refuse, and in which words; and what they come to.

use super::{doubted, refused, valid};
use crate::config::{Registry, RegistryScheme, Secret, SecretFile, Signer};

/// The key of RFC 8410's example, as openssl and as nkeys have it.
const LINE: &str = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";

fn signer(more: &str) -> String {
    format!("[[signer]]\nname = \"works\"\nkey = \"{LINE}\"\n{more}\n")
}

#[test]
fn every_key_of_artifacts_comes_to_what_it_says() {
    // Goal: what config/frond.toml says is what counts. Method: the smallest of each table, and one with every key.
    let config = valid(&format!(
        "[artifacts]\nfolders = [\"/a\", \"b\"]\nbytes_max = \"1GiB\"\nca = \"/ca.pem\"\n\
         [[registry]]\nname = \"ghcr.io\"\n\
         [[registry]]\nname = \"127.0.0.1:5000\"\nplain = true\nusername = \"u\"\npassword_file = \"/p\"\n{}\
         [[secret]]\nname = \"db\"\nfile = \"/db\"\ncomponents = [\"press\"]\nsigners = [\"works\"]\n\
         [[device]]\nname = \"meter\"\nkind = \"modbus-tcp\"\naddress = \"10.0.0.7\"\n",
        signer(
            "components = [\"press-*\"]\ninterfaces = []\nproviders = [\"mqtt\"]\ndevice_write = [\"meter\"]"
        )
    ));
    assert_eq!(config.artifacts.folders.len(), 2);
    assert_eq!((config.artifacts.bytes_max, config.artifacts.ca), (1 << 30, Some("/ca.pem".into())));
    assert_eq!(
        config.registries,
        [
            Registry { name: "ghcr.io".into(), scheme: RegistryScheme::Tls, credentials: None },
            Registry {
                name: "127.0.0.1:5000".into(),
                scheme: RegistryScheme::Plain,
                credentials: Some(("u".into(), "/p".into())),
            },
        ]
    );
    assert_eq!(
        config.signers,
        [Signer {
            name: "works".into(),
            key: crate::artifact::keys::account(LINE).unwrap(),
            components: Some(vec!["press-*".into()]),
            interfaces: Some(vec![]),
            providers: Some(vec!["mqtt".into()]),
            device_write: vec!["meter".into()],
        }]
    );
    assert_eq!(
        config.secrets,
        [Secret {
            name: "db".into(),
            file: SecretFile { said: "/db".into(), path: "/db".into() },
            components: vec!["press".into()],
            signers: Some(vec!["works".into()]),
        }]
    );
    let smallest = valid(&signer("")).signers.remove(0);
    assert_eq!((smallest.components, smallest.interfaces, smallest.providers), (None, None, None));
    assert!(smallest.device_write.is_empty(), "nobody writes to a device by default");
}

#[test]
fn mistakes_about_artifacts_are_told_with_what_to_do() {
    // Goal: nobody finds out on the plant floor. Method: one of each kind.
    for (text, said) in [
        ("[artifacts]\nbytes_max = \"1MiB\"\n".to_owned(), "artifacts.bytes_max"),
        ("[artifacts]\nalow_unsigned = true\n".to_owned(), "did you mean 'allow_unsigned'?"),
        ("[[registry]]\nplain = true\n".to_owned(), "'name' is missing"),
        ("[[registry]]\nname = \"https://ghcr.io\"\n".to_owned(), "is not a registry: its host"),
        ("[[registry]]\nname = \"ghcr.io\"\nusername = \"u\"\n".to_owned(), "'password_file' is missing"),
        ("[[registry]]\nname = \"ghcr.io\"\npassword_file = \"/p\"\n".to_owned(), "'username' is missing"),
        ("[[signer]]\nname = \"works\"\n".to_owned(), "'key' is missing"),
        ("[[signer]]\nname = \"works\"\nkey = \"SAABC\"\n".to_owned(), "this is not a public key: A…"),
        (
            format!("{}[[signer]]\nname = \"same\"\nkey = \"{LINE}\"\n", signer("")),
            "is the key of signer \"works\", too",
        ),
        (signer("device_write = [\"meter\"]"), "device_write: there is no device 'meter'"),
        ("[[secret]]\nname = \"db\"\nfile = \"/db\"\n".to_owned(), "'components' is missing"),
        ("[[secret]]\nname = \"db\"\ncomponents = [\"a\"]\n".to_owned(), "'file' is missing"),
        (
            "[[secret]]\nname = \"db\"\nfile = \"/db\"\ncomponents = [\"a\"]\nsigners = [\"x\"]\n".to_owned(),
            "there is no [[signer]] \"x\"",
        ),
    ] {
        let messages = refused(&text);
        assert!(
            messages.iter().any(|message| message.contains(said)),
            "{text}: {messages:?} does not say {said}"
        );
    }
    let messages = refused("[[signer]]\nname = \"works\"\nkey = \"SAGEHEIM\"\n");
    assert!(!messages.iter().any(|message| message.contains("GEHEIM")), "{messages:?}");
}

#[test]
fn what_lets_strangers_in_is_doubted() {
    // Goal: a gateway is not open by accident. Method: unsigned components; a password that goes in clear.
    let doubts = doubted("[artifacts]\nallow_unsigned = true\n");
    assert!(
        doubts.iter().any(|doubt| doubt.contains("whoever may publish on the lattice may run code here"))
    );
    let doubts = doubted(
        "[[registry]]\nname = \"10.0.0.5:5000\"\nplain = true\nusername = \"u\"\npassword_file = \"/dev/null\"\n",
    );
    assert!(
        doubts.iter().any(|doubt| doubt.contains("the password goes to 10.0.0.5:5000 without encryption"))
    );
}
