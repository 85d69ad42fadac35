//! What `snow` computes with: x25519-dalek, blake2 and ring, and randomness that the caller gave.

use blake2::{Blake2s256, Digest};
use peerage_wire::Suite;
use peerage_wire::limits::TAG_LEN;
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher as NoiseCipher, Dh, Hash, Random};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::cipher::Cipher;

/// The key of the handshake's random numbers.
pub(crate) struct Resolver {
    seed: Zeroizing<[u8; 32]>,
}

impl Resolver {
    pub(crate) fn new(seed: Zeroizing<[u8; 32]>) -> Self {
        Self { seed }
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Entropy { seed: self.seed.clone(), drawn: 0 }))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519::unset())),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::Blake2s => Some(Box::new(Blake2s(Blake2s256::new()))),
            _ => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn NoiseCipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::new(HandshakeCipher::unset(Suite::ChaChaPoly))),
            CipherChoice::AESGCM => Some(Box::new(HandshakeCipher::unset(Suite::AesGcm))),
        }
    }
}

/// BLAKE3 keyed with the seed, over the number of the draw.
struct Entropy {
    seed: Zeroizing<[u8; 32]>,
    drawn: u64,
}

impl Random for Entropy {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        blake3::Hasher::new_keyed(&self.seed).update(&self.drawn.to_le_bytes()).finalize_xof().fill(dest);
        self.drawn += 1;
        Ok(())
    }
}

struct X25519 {
    secret: StaticSecret,
    public: PublicKey,
}

impl X25519 {
    /// Without a key: snow sets or generates one before it uses any.
    fn unset() -> Self {
        Self { secret: StaticSecret::from([0; 32]), public: PublicKey::from([0; 32]) }
    }

    fn new(secret: StaticSecret) -> Self {
        Self { public: PublicKey::from(&secret), secret }
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        // Only ever called with what the builder was given, and that is 32 bytes.
        if let Ok(secret) = <[u8; 32]>::try_from(privkey) {
            *self = Self::new(StaticSecret::from(secret));
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut secret = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(secret.as_mut())?;
        *self = Self::new(StaticSecret::from(*secret));
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    /// Refuses a result of zeros (RFC 7748, section 6.1), with which a peer could force the keys.
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        // snow gives its whole buffer, which has room for longer keys.
        let their = pubkey.first_chunk::<32>().ok_or(Error::Dh)?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(*their));
        if !shared.was_contributory() {
            return Err(Error::Dh);
        }
        out.get_mut(..32).ok_or(Error::Dh)?.copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

struct Blake2s(Blake2s256);

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Blake2s256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = std::mem::take(&mut self.0).finalize();
        if let Some(out) = out.get_mut(..32) {
            out.copy_from_slice(&hash);
        }
    }
}

/// The handshake's own use of the record cipher, with the transcript as associated data.
struct HandshakeCipher {
    suite: Suite,
    cipher: Option<Box<Cipher>>,
}

impl HandshakeCipher {
    /// Without a key: snow sets one before it uses any.
    fn unset(suite: Suite) -> Self {
        Self { suite, cipher: None }
    }
}

impl NoiseCipher for HandshakeCipher {
    fn name(&self) -> &'static str {
        match self.suite {
            Suite::ChaChaPoly => "ChaChaPoly",
            Suite::AesGcm => "AESGCM",
        }
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.cipher = Cipher::new(self.suite, key).ok().map(Box::new);
    }

    /// Writes nothing, which no peer takes for a message, when there is no key or no room: snow sees to both.
    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let Some(cipher) = &self.cipher else { return 0 };
        let Some((body, rest)) = out.split_at_mut_checked(plaintext.len()) else { return 0 };
        let Some(place) = rest.first_chunk_mut::<TAG_LEN>() else { return 0 };
        body.copy_from_slice(plaintext);
        match cipher.seal(nonce, authtext, body) {
            Ok(tag) => *place = tag,
            Err(_) => return 0,
        }
        plaintext.len() + TAG_LEN
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let cipher = self.cipher.as_ref().ok_or(Error::Decrypt)?;
        let mut buffer = ciphertext.to_vec();
        let plaintext = cipher.open(nonce, authtext, &mut buffer).map_err(|_| Error::Decrypt)?;
        out.get_mut(..plaintext.len()).ok_or(Error::Decrypt)?.copy_from_slice(plaintext);
        Ok(plaintext.len())
    }
}

#[cfg(test)]
pub(crate) mod tests;
