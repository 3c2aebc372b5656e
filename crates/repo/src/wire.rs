//! Binary encoding that packs and indexes share: LEB128 numbers, counted texts, fixed arrays. Reading is bounded by
//! what is there; a wrong count never reserves memory.

/// The reason why bytes do not decode.
pub(crate) type Bad = &'static str;

/// Appends values.
#[derive(Default)]
pub(crate) struct Output(Vec<u8>);

impl Output {
    pub fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)) as u64);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn text(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes(bytes);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Takes values from the front.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes not taken yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Bad> {
        let (part, rest) = self.0.split_at_checked(len).ok_or("it is cut short")?;
        self.0 = rest;
        Ok(part)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let (part, rest) = self.0.split_first_chunk::<N>().ok_or("it is cut short")?;
        self.0 = rest;
        Ok(*part)
    }

    pub fn byte(&mut self) -> Result<u8, Bad> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn number(&mut self) -> Result<u64, Bad> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is too long")
    }

    pub fn small(&mut self) -> Result<u32, Bad> {
        u32::try_from(self.number()?).map_err(|_| "a number is too large")
    }

    pub fn signed(&mut self) -> Result<i64, Bad> {
        self.number().map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A number of things that take at least `least` bytes each.
    pub fn count(&mut self, least: usize) -> Result<usize, Bad> {
        let count = usize::try_from(self.number()?).map_err(|_| "a count is too large")?;
        if count > self.0.len() / least { Err("a count is too large") } else { Ok(count) }
    }

    pub fn text(&mut self) -> Result<&'a [u8], Bad> {
        let len = self.count(1)?;
        self.take(len)
    }

    pub fn end(&self) -> Result<(), Bad> {
        if self.0.is_empty() { Ok(()) } else { Err("it is longer than it says") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_round_trip(number in any::<u64>(), signed in any::<i64>()) {
            let mut out = Output::default();
            out.number(number);
            out.signed(signed);
            let mut input = Input::new(out.as_bytes());
            prop_assert_eq!(input.number(), Ok(number));
            prop_assert_eq!(input.signed(), Ok(signed));
            prop_assert!(input.end().is_ok());
        }
    }

    #[test]
    fn bad_numbers() {
        assert!(Input::new(&[0x80]).number().is_err(), "cut short");
        assert!(Input::new(&[0xff; 11]).number().is_err(), "too long");
        assert!(Input::new(&[5, 1, 2]).count(1).is_err(), "more than there is");
    }
}
