//! TLS of the gRPC port and of calls to other services, by one cryptography provider and from version 1.2 on.
//!
//! Invariant: a certificate, its key and the authorities are taken together, and only when they fit; files that change
//! are in force for the next handshake, files that are broken leave the last good ones in force.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::{Channel, Endpoint};

use crate::settings::SettingsError;
use crate::wire::WireSettings;

/// The one protocol of gRPC.
const ALPN: &[u8] = b"h2";
/// A peer that has not shown who it is by then is cut off.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Files are looked at again at most this often.
const LOOK: Duration = Duration::from_secs(1);
/// The certificate of the gRPC server, and whom it lets connect.
pub(crate) type ServerTls = FromFiles<ServerConfig>;

/// What other services are known by, and what this one shows them.
pub(crate) type ClientTls = FromFiles<ClientConfig>;

/// Makes a value of the content of its files.
type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, SettingsError> + Send + Sync>;

/// A value made of files, and made anew when their content changes.
pub(crate) struct FromFiles<T> {
    files: Vec<(&'static str, PathBuf)>,
    make: Make<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    looked: Instant,
    contents: Vec<Vec<u8>>,
    value: Arc<T>,
}

impl<T> FromFiles<T> {
    fn open(files: Vec<(&'static str, PathBuf)>, make: Make<T>) -> Result<Self, SettingsError> {
        let contents = read(&files)?;
        let value = Arc::new(make(&contents)?);
        let state = Mutex::new(State {
            looked: Instant::now(),
            contents,
            value,
        });
        Ok(Self { files, make, state })
    }

    /// The value of the files as they are now, or as they last were in order.
    fn current(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK {
            state.looked = Instant::now();
            match self.look(&state.contents) {
                Ok(None) => {}
                Ok(Some((contents, value))) => {
                    tracing::info!("certificates have changed and are in force");
                    state.contents = contents;
                    state.value = Arc::new(value);
                }
                // While the files of a pair are replaced one after the other, they do not fit for a moment.
                Err(error) => {
                    tracing::warn!(%error, "changed certificates cannot be used; the last good ones stay in force");
                }
            }
        }
        Arc::clone(&state.value)
    }

    #[expect(
        clippy::type_complexity,
        reason = "the new content and what it makes, if it is new"
    )]
    fn look(&self, known: &[Vec<u8>]) -> Result<Option<(Vec<Vec<u8>>, T)>, SettingsError> {
        let contents = read(&self.files)?;
        if contents == known {
            return Ok(None);
        }
        let value = (self.make)(&contents)?;
        Ok(Some((contents, value)))
    }
}

impl<T> std::fmt::Debug for FromFiles<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FromFiles")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn read(files: &[(&'static str, PathBuf)]) -> Result<Vec<Vec<u8>>, SettingsError> {
    let read = |(variable, path): &(&'static str, PathBuf)| {
        std::fs::read(path).map_err(|error| {
            SettingsError::new(variable, format!("cannot read {}: {error}", path.display()))
        })
    };
    files.iter().map(read).collect()
}

impl WireSettings {
    /// The server's side; none when no certificate is set.
    pub(crate) fn server(&self) -> Result<Option<Arc<ServerTls>>, SettingsError> {
        let Some((cert, key)) = pair(
            ("CATALYST_TLS_CERT_FILE", self.tls_cert_file.as_deref()),
            ("CATALYST_TLS_KEY_FILE", self.tls_key_file.as_deref()),
        )?
        else {
            return match &self.tls_client_ca_file {
                None => Ok(None),
                Some(_) => Err(SettingsError::new(
                    "CATALYST_TLS_CLIENT_CA_FILE",
                    "has no effect without CATALYST_TLS_CERT_FILE and CATALYST_TLS_KEY_FILE: set them as well",
                )),
            };
        };
        let mut files = vec![cert, key];
        if let Some(authorities) = &self.tls_client_ca_file {
            files.push(("CATALYST_TLS_CLIENT_CA_FILE", authorities.clone()));
        }
        let tls = ServerTls::open(files, Box::new(server_config))?;
        Ok(Some(Arc::new(tls)))
    }

    /// The client's side; none when no authority is set.
    pub(crate) fn client(&self) -> Result<Option<Arc<ClientTls>>, SettingsError> {
        let own = pair(
            (
                "CATALYST_TLS_CLIENT_CERT_FILE",
                self.tls_client_cert_file.as_deref(),
            ),
            (
                "CATALYST_TLS_CLIENT_KEY_FILE",
                self.tls_client_key_file.as_deref(),
            ),
        )?;
        let Some(authorities) = &self.tls_ca_file else {
            return Ok(None);
        };
        let mut files = vec![("CATALYST_TLS_CA_FILE", authorities.clone())];
        files.extend(own.into_iter().flat_map(|(cert, key)| [cert, key]));
        let tls = ClientTls::open(files, Box::new(client_config))?;
        Ok(Some(Arc::new(tls)))
    }
}

type Named = (&'static str, PathBuf);

/// Both files or none.
fn pair(
    cert: (&'static str, Option<&Path>),
    key: (&'static str, Option<&Path>),
) -> Result<Option<(Named, Named)>, SettingsError> {
    match (cert, key) {
        ((_, None), (_, None)) => Ok(None),
        ((cert, Some(cert_file)), (key, Some(key_file))) => Ok(Some((
            (cert, cert_file.to_owned()),
            (key, key_file.to_owned()),
        ))),
        ((there, Some(_)), (missing, None)) | ((missing, None), (there, Some(_))) => {
            Err(SettingsError::new(
                missing,
                format!("is missing: a certificate and its key go together, and {there} is set"),
            ))
        }
    }
}

fn server_config(contents: &[Vec<u8>]) -> Result<ServerConfig, SettingsError> {
    let variable = "CATALYST_TLS_CERT_FILE";
    let [cert, key, authorities @ ..] = contents else {
        return Err(SettingsError::new(variable, "is missing"));
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| SettingsError::new(variable, error.to_string()))?;
    let builder = match authorities.first() {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let variable = "CATALYST_TLS_CLIENT_CA_FILE";
            let roots = Arc::new(authorities_of(variable, pem)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| SettingsError::new(variable, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = chain_of(variable, cert)?;
    let key = key_of("CATALYST_TLS_KEY_FILE", key)?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| does_not_fit("CATALYST_TLS_KEY_FILE", variable, &error))?;
    config.alpn_protocols.push(ALPN.to_vec());
    Ok(config)
}

fn client_config(contents: &[Vec<u8>]) -> Result<ClientConfig, SettingsError> {
    let variable = "CATALYST_TLS_CA_FILE";
    let [authorities, own @ ..] = contents else {
        return Err(SettingsError::new(variable, "is missing"));
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| SettingsError::new(variable, error.to_string()))?
        .with_root_certificates(authorities_of(variable, authorities)?);
    let mut config = match own {
        [cert, key] => {
            let (cert_variable, key_variable) = (
                "CATALYST_TLS_CLIENT_CERT_FILE",
                "CATALYST_TLS_CLIENT_KEY_FILE",
            );
            let chain = chain_of(cert_variable, cert)?;
            let key = key_of(key_variable, key)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| does_not_fit(key_variable, cert_variable, &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols.push(ALPN.to_vec());
    Ok(config)
}

fn does_not_fit(
    key: &'static str,
    certificate: &'static str,
    error: &rustls::Error,
) -> SettingsError {
    SettingsError::new(
        key,
        format!("is not the key of the certificate in {certificate}: {error}"),
    )
}

/// The same provider everywhere, whatever else is linked.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn chain_of(
    variable: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
        SettingsError::new(
            variable,
            "holds no certificates in PEM: put the chain into it, the own one first",
        )
    })
}

fn key_of(variable: &'static str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, SettingsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        SettingsError::new(
            variable,
            "holds no private key in PEM: put an unencrypted PKCS#8 key into it",
        )
    })
}

/// The authorities in a PEM file.
fn authorities_of(variable: &'static str, pem: &[u8]) -> Result<RootCertStore, SettingsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain_of(variable, pem)? {
        roots.add(certificate).map_err(|error| {
            SettingsError::new(
                variable,
                format!("holds a certificate that is no authority: {error}"),
            )
        })?;
    }
    Ok(roots)
}

/// Refuses a file of authorities that cannot be used, before anybody is connected to.
pub(crate) fn check_authorities(variable: &'static str, path: &Path) -> Result<(), SettingsError> {
    let contents = read(&[(variable, path.to_owned())])?;
    authorities_of(variable, contents.first().map_or(&[], Vec::as_slice)).map(|_| ())
}

impl ServerTls {
    /// The handshake with a caller, by the files as they are now.
    pub(crate) async fn accept<IO>(&self, io: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.current());
        tokio::time::timeout(HANDSHAKE, acceptor.accept(io))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// A channel to an https origin, which connects on first use and, after each loss, with the files as they then are.
/// The endpoint names the same place with http: for https the transport would bring a fixed TLS of its own.
pub(crate) fn channel(endpoint: Endpoint, origin: Uri, tls: Arc<ClientTls>) -> Channel {
    let place = origin.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let (tls, place) = (Arc::clone(&tls), place.clone());
        async move { connect(&tls, &place).await.map(TokioIo::new) }
    });
    endpoint
        .origin(origin)
        .connect_with_connector_lazy(connector)
}

async fn connect(
    tls: &ClientTls,
    origin: &Uri,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let host = origin
        .host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host, origin.port_u16().unwrap_or(443))).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(tls.current())
        .connect(name, stream)
        .await
}
