//! Number formats of checkpoints and of weights files, and rounding between them.
use half::{bf16, f16};

/// A number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[allow(missing_docs)] // the names say it
pub enum Dtype {
    #[default]
    F32,
    F16,
    BF16,
    F64,
    I64,
    I32,
    U32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// As safetensors writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F64 => "F64",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::U32 => "U32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }

    /// The format that safetensors calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        use Dtype::*;
        [F32, F16, BF16, F64, I64, I32, U32, I16, I8, U8, Bool].into_iter().find(|d| d.name() == name)
    }

    /// The format of a torch storage class, `FloatStorage` and so on.
    pub(crate) fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::BF16,
            "DoubleStorage" => Self::F64,
            "LongStorage" => Self::I64,
            "IntStorage" => Self::I32,
            "ShortStorage" => Self::I16,
            "CharStorage" => Self::I8,
            "ByteStorage" => Self::U8,
            "BoolStorage" => Self::Bool,
            _ => return None,
        })
    }
}

/// A number that cannot be rounded.
#[derive(Debug, PartialEq)]
pub(crate) enum Unfit {
    /// NaN or infinite in the source already.
    NotFinite(f64),
    /// Beyond the largest number of the target.
    TooLarge(f64),
    /// Whole numbers and masks are no weights.
    NotFloating,
}

/// Little-endian numbers of format `from` appended to `out` in format `to`, rounded to nearest even.
pub(crate) fn round(bytes: &[u8], from: Dtype, to: Dtype, out: &mut Vec<u8>) -> Result<(), Unfit> {
    out.reserve(bytes.len() / from.size() * to.size());
    match from {
        Dtype::F32 => each(bytes, f32::from_le_bytes, to, out),
        Dtype::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32(), to, out),
        Dtype::BF16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32(), to, out),
        Dtype::F64 => {
            let values = bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b));
            let too_large = values.clone().find(|v| v.is_finite() && (*v as f32).is_infinite());
            too_large.map_or(Ok(()), |v| Err(Unfit::TooLarge(v)))?;
            each(bytes, |b| f64::from_le_bytes(b) as f32, to, out)
        }
        _ => Err(Unfit::NotFloating),
    }
}

/// By way of f32, as torch does it (and `half` rounds f64 to bf16 wrongly near ties).
fn each<const N: usize>(
    bytes: &[u8],
    read: impl Fn([u8; N]) -> f32,
    to: Dtype,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    let values = bytes.as_chunks().0.iter().map(|b| read(*b));
    match to {
        Dtype::F32 => store(values, f32::to_le_bytes, |v| v, out),
        Dtype::F16 => store(values, |v| f16::from_f32(v).to_le_bytes(), |v| f16::from_f32(v).to_f32(), out),
        Dtype::BF16 => store(values, |v| bf16::from_f32(v).to_le_bytes(), |v| bf16::from_f32(v).to_f32(), out),
        _ => Err(Unfit::NotFloating),
    }
}

fn store<const N: usize>(
    values: impl Iterator<Item = f32>,
    write: impl Fn(f32) -> [u8; N],
    rounded: impl Fn(f32) -> f32,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    for value in values {
        if !rounded(value).is_finite() {
            let wide = f64::from(value);
            return Err(if value.is_finite() { Unfit::TooLarge(wide) } else { Unfit::NotFinite(wide) });
        }
        out.extend_from_slice(&write(value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_all(values: &[f32], to: Dtype) -> Result<Vec<u8>, Unfit> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut out = Vec::new();
        round(&bytes, Dtype::F32, to, &mut out).map(|()| out)
    }

    #[test]
    fn ties_go_to_even() {
        let half_up = 1.0 + 3. * f32::powi(2., -11); // between 1 + 1/1024 and 1 + 2/1024 in f16
        assert_eq!(round_all(&[half_up], Dtype::F16).unwrap(), f16::from_bits(0x3c02).to_le_bytes());
        let half_up = 1.0 + 3. * f32::powi(2., -8); // between 1 + 1/128 and 1 + 2/128 in bf16
        assert_eq!(round_all(&[half_up], Dtype::BF16).unwrap(), bf16::from_bits(0x3f82).to_le_bytes());
        assert_eq!(round_all(&[0.1, -3.], Dtype::F32).unwrap(), [0.1f32.to_le_bytes(), (-3f32).to_le_bytes()].concat());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert_eq!(round_all(&[1., 7e4], Dtype::F16), Err(Unfit::TooLarge(7e4)));
        assert_eq!(round(&1e39f64.to_le_bytes(), Dtype::F64, Dtype::F32, &mut Vec::new()), Err(Unfit::TooLarge(1e39)));
        assert!(matches!(round_all(&[f32::NAN], Dtype::F32), Err(Unfit::NotFinite(_))));
        assert_eq!(round(&[0; 8], Dtype::I64, Dtype::F32, &mut Vec::new()), Err(Unfit::NotFloating));
    }
}
