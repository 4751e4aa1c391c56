//! The console's identity, and how an agent verifies it: TLS 1.3 with one pinned public key.
//!
//! Owns: the console's permanent key and self-signed certificate, the pin made from them, and the
//! TLS settings of both ends. There is no certificate authority and no expiry: an agent accepts
//! exactly the key whose SHA-256 hash it was given, and ignores everything else in the certificate.
//! Never opens a connection. Invariants: the key file is readable by its owner only, and appears
//! completely or not at all; a damaged key file is an error and is never replaced, because every
//! exported agent pins the key in it.
//!
//! The key is P-256 and not Ed25519: browsers do not accept Ed25519 certificates, and the same
//! identity will serve them.

use facts::hex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the file in the identity folder. It has private key and certificate as PEM, so that one
/// rename replaces both.
const IDENTITY_FILE: &str = "console.pem";

/// Server name in the agents' handshake; it is not checked, because the pin identifies the console.
const SERVER_NAME: &str = "diskcast-console";

/// SHA-256 hash of a public key (SPKI): the fingerprint an agent is given.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Pin(pub [u8; 32]);

impl Pin {
    fn of_spki(spki: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, spki);
        let mut pin = [0; 32];
        // SHA-256 gives 32 bytes.
        pin.copy_from_slice(digest.as_ref());
        Self(pin)
    }
}

impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&hex::encode(&self.0))
    }
}

/// Parses a pin as people copy it: in upper or lower case, with colons or blanks, with the prefix
/// `sha256:`.
impl std::str::FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let lower = text.trim().to_ascii_lowercase();
        let digits: String = lower
            .strip_prefix("sha256:")
            .unwrap_or(&lower)
            .chars()
            .filter(|c| !matches!(c, ':' | ' '))
            .collect();
        Ok(Self(hex::decode(&digits)?))
    }
}

/// The text is not a pin.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a pin is the 64 hex digits that console show prints: {0}")]
pub struct PinError(#[from] hex::HexError);

/// The reason why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file cannot be read, made or written.
    #[error("{path}: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file is not a key with its certificate.
    #[error("{path} is no console identity: {what}")]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// The fault.
        what: String,
    },
    /// A new key or certificate could not be made.
    #[error("making the console's key: {0}")]
    Generate(#[from] rcgen::Error),
    /// The key is not accepted by rustls.
    #[error("console identity: {0}")]
    Tls(#[from] rustls::Error),
}

/// Key, certificate and pin of the console.
pub struct Identity {
    key: PrivateKeyDer<'static>,
    certificate: CertificateDer<'static>,
    pin: Pin,
}

impl Identity {
    /// Makes a new identity, as PEM text.
    fn generate_pem() -> Result<String, IdentityError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "diskcast console");
        let certificate = params.self_signed(&key)?;
        Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
    }

    fn from_pem(pem: &[u8], path: &Path) -> Result<Self, IdentityError> {
        let damaged = |what: String| IdentityError::Damaged {
            path: path.to_owned(),
            what,
        };
        let key =
            PrivateKeyDer::from_pem_slice(pem).map_err(|e| damaged(format!("private key: {e}")))?;
        let certificate = CertificateDer::from_pem_slice(pem)
            .map_err(|e| damaged(format!("certificate: {e}")))?;
        let parsed = ParsedCertificate::try_from(&certificate)
            .map_err(|e| damaged(format!("certificate: {e}")))?;
        let pin = Pin::of_spki(parsed.subject_public_key_info().as_ref());
        let signing = provider().key_provider.load_private_key(key.clone_key())?;
        rustls::sign::CertifiedKey::new(vec![certificate.clone()], signing)
            .keys_match()
            .map_err(|e| damaged(format!("key and certificate differ: {e}")))?;
        Ok(Self {
            key,
            certificate,
            pin,
        })
    }

    /// Makes an identity that lives as long as the process.
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn ephemeral() -> Result<Self, IdentityError> {
        Self::from_pem(
            Self::generate_pem()?.as_bytes(),
            Path::new("(new identity)"),
        )
    }

    /// Reads the identity in `folder`; the first call makes it. The folder gets mode 0700 and the
    /// file 0600.
    ///
    /// # Errors
    /// The file cannot be read or written, or is damaged.
    pub fn load_or_create(folder: &Path) -> Result<Self, IdentityError> {
        let path = folder.join(IDENTITY_FILE);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::File { path, source }
        };
        match std::fs::read(&path) {
            Ok(pem) => return Self::from_pem(&pem, &path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&path)(error)),
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(at(folder))?;
        let pem = Self::generate_pem()?;
        let partial = folder.join(format!("{IDENTITY_FILE}.partial"));
        // The file may be left from a console that ended at this point; its key was never used.
        let _ = std::fs::remove_file(&partial);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)
            .map_err(at(&partial))?;
        file.write_all(pem.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(at(&partial))?;
        std::fs::rename(&partial, &path).map_err(at(&path))?;
        sync_folder(folder).map_err(at(folder))?;
        Self::from_pem(pem.as_bytes(), &path)
    }

    /// The pin that agents are given.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// TLS settings of the console's ports: TLS 1.3 only, no client certificates.
    ///
    /// # Errors
    /// The key is not accepted by rustls.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        // Agents connect rarely and stay connected, so session tickets would be of no use.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    OpenOptions::new().read(true).open(folder)?.sync_all()
}

/// The crypto provider; the only place that names it.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// TLS settings of an agent: TLS 1.3 only, and only the console with this key.
///
/// # Errors
/// The settings are not accepted by rustls.
pub fn client_config(pin: Pin) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = provider();
    let verifier = Arc::new(PinnedConsole {
        pin,
        provider: Arc::clone(&provider),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Server name for a connector that uses `client_config`.
pub fn server_name() -> ServerName<'static> {
    // The constant is a valid DNS name; the handshake tests below prove it.
    ServerName::try_from(SERVER_NAME).unwrap_or(ServerName::IpAddress(
        std::net::Ipv4Addr::UNSPECIFIED.into(),
    ))
}

/// Verifier that accepts one public key, with a valid signature by it.
#[derive(Debug)]
struct PinnedConsole {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedConsole {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = Pin::of_spki(
            ParsedCertificate::try_from(end_entity)?
                .subject_public_key_info()
                .as_ref(),
        );
        // Fingerprints are public, so the time of this comparison reveals nothing.
        if shown != self.pin {
            return Err(rustls::Error::General(format!(
                "the console shows pin {shown}, expected {}",
                self.pin
            )));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General(
            "TLS 1.2 is not spoken here".to_owned(),
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    async fn handshake(identity: &Identity, pin: Pin) -> std::io::Result<Vec<u8>> {
        let (client, server) = tokio::io::duplex(4096);
        let acceptor = TlsAcceptor::from(identity.server_config().unwrap());
        let serving = tokio::spawn(async move {
            if let Ok(mut stream) = acceptor.accept(server).await {
                let _ = stream.write_all(b"welcome").await;
                let _ = stream.shutdown().await;
            }
        });
        let connector = TlsConnector::from(client_config(pin).unwrap());
        let mut stream = connector.connect(server_name(), client).await?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await?;
        serving.await.unwrap();
        Ok(said)
    }

    #[tokio::test]
    async fn the_pinned_console_is_accepted_and_another_is_not() {
        let console = Identity::ephemeral().unwrap();
        let impostor = Identity::ephemeral().unwrap();
        assert_eq!(
            handshake(&console, console.pin()).await.unwrap(),
            b"welcome"
        );
        let error = handshake(&impostor, console.pin()).await.unwrap_err();
        assert!(
            error.to_string().contains(&impostor.pin().to_string()),
            "{error}"
        );
    }

    /// The certificate is public; a program that only has a copy of it cannot sign.
    #[tokio::test]
    async fn a_copied_certificate_without_its_key_is_refused() {
        let console = Identity::ephemeral().unwrap();
        let thief = Identity::ephemeral().unwrap();
        let key = provider()
            .key_provider
            .load_private_key(thief.key.clone_key())
            .unwrap();
        let stolen = rustls::sign::CertifiedKey::new(vec![console.certificate.clone()], key);
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(stolen)));
        let (client, server) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            TlsAcceptor::from(Arc::new(config))
                .accept(server)
                .await
                .map(drop)
        });
        let connector = TlsConnector::from(client_config(console.pin()).unwrap());
        assert!(connector.connect(server_name(), client).await.is_err());
    }

    #[test]
    fn the_identity_stays_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("identity");
        let first = Identity::load_or_create(&home).unwrap();
        let again = Identity::load_or_create(&home).unwrap();
        assert_eq!(first.pin(), again.pin());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&home), 0o700);
        assert_eq!(mode(&home.join(IDENTITY_FILE)), 0o600);
        // A damaged file is an error and is not changed.
        std::fs::write(home.join(IDENTITY_FILE), "-----BEGIN nothing").unwrap();
        assert!(matches!(
            Identity::load_or_create(&home),
            Err(IdentityError::Damaged { .. })
        ));
        // So is a key with another key's certificate.
        let (a, b) = (
            Identity::generate_pem().unwrap(),
            Identity::generate_pem().unwrap(),
        );
        let cut = |pem: &str| pem.find("-----BEGIN CERTIFICATE").unwrap();
        std::fs::write(
            home.join(IDENTITY_FILE),
            format!("{}{}", &a[..cut(&a)], &b[cut(&b)..]),
        )
        .unwrap();
        assert!(matches!(
            Identity::load_or_create(&home),
            Err(IdentityError::Damaged { .. })
        ));
    }

    #[test]
    fn pins_are_read_as_people_copy_them() {
        let pin = Pin([0xab; 32]);
        let plain = pin.to_string();
        let colons = plain
            .as_bytes()
            .chunks(2)
            .map(|c| String::from_utf8_lossy(c))
            .collect::<Vec<_>>()
            .join(":");
        for text in [
            plain.clone(),
            plain.to_uppercase(),
            colons,
            format!("SHA256:{plain}"),
            format!(" {plain}\n"),
        ] {
            assert_eq!(text.parse::<Pin>(), Ok(pin), "{text}");
        }
        assert!("abcd".parse::<Pin>().is_err());
        assert!(plain.replace('a', "x").parse::<Pin>().is_err());
    }
}
