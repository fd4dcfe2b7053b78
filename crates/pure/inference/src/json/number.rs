//! Numbers: scanned once, then turned into the type that is wanted, exactly or not at all.
//!
//! Short decimals, which are nearly all that people send, take the fast path of Clinger (1990): a whole mantissa and a
//! power of ten that are both exact, and one rounding. The rest goes through the standard library, whose
//! reader is the algorithm of Lemire (2021) and always rounds correctly; another crate would only bring the same.

use super::{
    fault::{Fault, Parsed, quoted},
    reader::Reader,
};

/// A number as written.
#[derive(Clone, Copy)]
pub(super) struct Number<'a> {
    /// All of it.
    text: &'a str,
    negative: bool,
    /// The digits without the point, when `exact`.
    mantissa: u64,
    /// Power of ten that the mantissa is multiplied with.
    exponent: i32,
    /// Whether the mantissa holds every digit.
    exact: bool,
    /// Neither fraction nor exponent were written.
    whole: bool,
}

/// Digits that always fit in 64 bits.
const DIGITS_EXACT: usize = 19;

/// An exponent with more digits than this is beyond every type; reading stops to count there.
const EXPONENT_MAX: i32 = 100_000;

const TENS_F64: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

const TENS_F32: [f32; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];

impl<'a> Number<'a> {
    /// Reads the number that begins here, by the grammar of RFC 8259.
    #[inline]
    pub(super) fn scan(reader: &mut Reader<'a>) -> Parsed<Self> {
        let start = reader.position();
        let negative = reader.byte() == Some(b'-');
        if negative {
            reader.advance(1);
        }
        let mut mantissa = 0;
        let leading_zero = reader.byte() == Some(b'0');
        let mut digits = digits(reader, &mut mantissa);
        if digits == 0 || (leading_zero && digits > 1) {
            return Err(malformed(reader, start));
        }
        let (mut exponent, mut whole) = (0, true);
        if reader.byte() == Some(b'.') {
            reader.advance(1);
            let fraction = self::digits(reader, &mut mantissa);
            if fraction == 0 {
                return Err(malformed(reader, start));
            }
            whole = false;
            digits += fraction;
            exponent = i32::try_from(fraction).map_or(-EXPONENT_MAX, |fraction| -fraction);
        }
        if matches!(reader.byte(), Some(b'e' | b'E')) {
            reader.advance(1);
            whole = false;
            let written = Self::scan_exponent(reader).ok_or_else(|| malformed(reader, start))?;
            exponent = exponent.saturating_add(written);
        }
        let text = reader.since(start);
        Ok(Self { text, negative, mantissa, exponent, exact: digits <= DIGITS_EXACT, whole })
    }

    fn scan_exponent(reader: &mut Reader<'a>) -> Option<i32> {
        let negative = reader.byte() == Some(b'-');
        if negative || reader.byte() == Some(b'+') {
            reader.advance(1);
        }
        let mut value = 0_i32;
        let mut any = false;
        while let Some(digit @ b'0'..=b'9') = reader.byte() {
            value = (value * 10 + i32::from(digit - b'0')).min(EXPONENT_MAX);
            any = true;
            reader.advance(1);
        }
        any.then_some(if negative { -value } else { value })
    }

    /// The number as the sender wrote it, for messages.
    pub(super) fn shown(&self) -> String {
        quoted(self.text)
    }

    /// Whether [`Self::to_f64`] has a fast path.
    #[inline]
    fn digits_fit_f64(&self) -> bool {
        self.exact && self.mantissa <= 1 << 53 && self.exponent.unsigned_abs() <= 22
    }

    /// The nearest `f64`; `None` when it is beyond the finite ones.
    #[inline]
    pub(super) fn to_f64(self) -> Option<f64> {
        const WHOLE_MAX: u64 = 1 << 53;
        if self.exact && self.mantissa <= WHOLE_MAX {
            let tens = usize::try_from(self.exponent.unsigned_abs()).ok().and_then(|power| TENS_F64.get(power));
            if let Some(tens) = tens {
                let whole = self.mantissa as f64;
                let value = if self.exponent < 0 { whole / tens } else { whole * tens };
                return Some(if self.negative { -value } else { value });
            }
        }
        self.text.parse().ok().filter(|value: &f64| value.is_finite())
    }

    /// The nearest `f32`; `None` when it is beyond the finite ones.
    #[inline]
    pub(super) fn to_f32(self) -> Option<f32> {
        const WHOLE_MAX: u64 = 1 << 24;
        if self.exact && self.mantissa <= WHOLE_MAX {
            let tens = usize::try_from(self.exponent.unsigned_abs()).ok().and_then(|power| TENS_F32.get(power));
            if let Some(tens) = tens {
                let whole = self.mantissa as f32;
                let value = if self.exponent < 0 { whole / tens } else { whole * tens };
                return Some(if self.negative { -value } else { value });
            }
        }
        if self.digits_fit_f64()
            && let Some(value) = self.to_f64()
            && !rounds_twice(value)
        {
            #[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest is what is wanted")]
            let narrow = value as f32;
            return narrow.is_finite().then_some(narrow);
        }
        self.text.parse().ok().filter(|value: &f32| value.is_finite())
    }

    /// The whole number that this is, exactly; `None` when it is not whole. Values beyond `i128` count as not whole.
    #[inline]
    pub(super) fn to_whole(self) -> Option<i128> {
        let magnitude = if self.whole && self.exact {
            i128::from(self.mantissa)
        } else if self.whole {
            return self.text.parse().ok();
        } else {
            self.whole_magnitude()?
        };
        Some(if self.negative { -magnitude } else { magnitude })
    }

    /// `1.0`, `2e3` and `1500e-2` are whole, `1.5` is not.
    fn whole_magnitude(self) -> Option<i128> {
        if !self.exact {
            return None;
        }
        if self.mantissa == 0 {
            return Some(0);
        }
        let tens = 10_i128.checked_pow(self.exponent.unsigned_abs())?;
        let mantissa = i128::from(self.mantissa);
        if self.exponent >= 0 { mantissa.checked_mul(tens) } else { (mantissa % tens == 0).then(|| mantissa / tens) }
    }

    /// Whether a fraction or an exponent was written.
    pub(super) fn written_whole(&self) -> bool {
        self.whole
    }
}

/// Whether `value`, already the nearest `f64` to a decimal, could round to another `f32` than the decimal itself: only when
/// it lies halfway between two of them, or where `f32` has fewer digits than usual.
#[inline]
fn rounds_twice(value: f64) -> bool {
    const BELOW_F32: u64 = (1 << 29) - 1;
    const HALFWAY: u64 = 1 << 28;
    let subnormal = value != 0.0 && value.abs() < f64::from(f32::MIN_POSITIVE);
    subnormal || value.to_bits() & BELOW_F32 == HALFWAY
}

/// Reads digits into `mantissa` and counts them. Beyond [`DIGITS_EXACT`] the mantissa wraps, and is not used.
#[inline]
fn digits(reader: &mut Reader<'_>, mantissa: &mut u64) -> usize {
    let start = reader.position();
    while let Some(digit @ b'0'..=b'9') = reader.byte() {
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        reader.advance(1);
    }
    reader.position() - start
}

#[cold]
fn malformed(reader: &mut Reader<'_>, start: usize) -> Box<Fault> {
    let text = quoted(reader.since(start));
    Fault::new(format!("the number that begins with {text} at byte {start} is malformed"))
}
