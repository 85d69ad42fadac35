//! SipHash-2-4 (Aumasson and Bernstein, INDOCRYPT 2012), with 64 and with 128 bits of output.
//!
//! A pseudorandom function for short inputs: who does not know the key cannot prepare inputs that collide. It costs a few
//! instructions a block, and any language has it.

/// The state between blocks.
#[derive(Clone, Copy)]
struct Sip {
    v: [u64; 4],
}

impl Sip {
    #[inline]
    const fn new(key: (u64, u64)) -> Self {
        let (k0, k1) = key;
        let v0 = k0 ^ 0x736f_6d65_7073_6575;
        let v1 = k1 ^ 0x646f_7261_6e64_6f6d;
        let v2 = k0 ^ 0x6c79_6765_6e65_7261;
        let v3 = k1 ^ 0x7465_6462_7974_6573;
        Self { v: [v0, v1, v2, v3] }
    }

    #[inline]
    const fn rounds(&mut self, count: u32) {
        let [mut v0, mut v1, mut v2, mut v3] = self.v;
        let mut left = count;
        while left > 0 {
            v0 = v0.wrapping_add(v1);
            v2 = v2.wrapping_add(v3);
            v1 = v1.rotate_left(13) ^ v0;
            v3 = v3.rotate_left(16) ^ v2;
            v0 = v0.rotate_left(32);
            v2 = v2.wrapping_add(v1);
            v0 = v0.wrapping_add(v3);
            v1 = v1.rotate_left(17) ^ v2;
            v3 = v3.rotate_left(21) ^ v0;
            v2 = v2.rotate_left(32);
            left -= 1;
        }
        self.v = [v0, v1, v2, v3];
    }

    #[inline]
    const fn block(&mut self, word: u64) {
        let [v0, v1, v2, v3] = self.v;
        self.v = [v0, v1, v2, v3 ^ word];
        self.rounds(2);
        let [v0, v1, v2, v3] = self.v;
        self.v = [v0 ^ word, v1, v2, v3];
    }

    /// All of the input, with its length in the last byte.
    #[inline]
    fn input(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.block(u64::from_le_bytes(*word));
        }
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u64::from(*byte));
        self.block((bytes.len() as u64) << 56 | tail);
    }

    #[inline]
    const fn end(&mut self, mask: [u64; 4]) -> u64 {
        let ([v0, v1, v2, v3], [m0, m1, m2, m3]) = (self.v, mask);
        self.v = [v0 ^ m0, v1 ^ m1, v2 ^ m2, v3 ^ m3];
        self.rounds(4);
        let [v0, v1, v2, v3] = self.v;
        v0 ^ v1 ^ v2 ^ v3
    }
}

/// SipHash-2-4 of a number, as its eight bytes, least significant first.
#[inline]
pub(crate) const fn hash_u64(key: (u64, u64), number: u64) -> u64 {
    let mut sip = Sip::new(key);
    sip.block(number);
    sip.block(8 << 56);
    sip.end([0, 0, 0xff, 0])
}

/// SipHash-2-4-128: the first eight bytes of its output and the last, least significant first.
#[inline]
pub(crate) fn hash_128(key: (u64, u64), bytes: &[u8]) -> (u64, u64) {
    let mut sip = Sip::new(key);
    let [v0, v1, v2, v3] = sip.v;
    sip.v = [v0, v1 ^ 0xee, v2, v3];
    sip.input(bytes);
    let first = sip.end([0, 0, 0xee, 0]);
    (first, sip.end([0, 0xdd, 0, 0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (u64, u64) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);

    fn bytes((first, last): (u64, u64)) -> [u8; 16] {
        let mut all = [0; 16];
        all[..8].copy_from_slice(&first.to_le_bytes());
        all[8..].copy_from_slice(&last.to_le_bytes());
        all
    }

    /// The first of the authors' vectors for the double-width variant: no input, and the byte 0.
    #[test]
    fn the_authors_vectors_hold() {
        let none =
            [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93];
        let one =
            [0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45];
        assert_eq!(bytes(hash_128(KEY, &[])), none);
        assert_eq!(bytes(hash_128(KEY, &[0])), one);
    }

    #[test]
    fn a_number_hashes_as_its_bytes_do() {
        // The authors' vector for the eight bytes 0 to 7.
        assert_eq!(
            hash_u64(KEY, 0x0706_0504_0302_0100).to_le_bytes(),
            [0x62, 0x24, 0x93, 0x9a, 0x79, 0xf5, 0xf5, 0x93]
        );
    }
}
