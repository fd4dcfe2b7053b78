//! Whether bytes are a Python pickle: walks the opcodes of pickle protocols 0 to 5 (CPython's `pickletools`).

/// Opcodes after which a file that goes on beyond the sample is taken for a pickle.
const OPCODES_MIN: usize = 8;

/// Whether a file of `size` bytes that starts with `head` is a pickle.
pub(crate) fn looks_like(head: &[u8], size: u64) -> bool {
    // From protocol 2 on a pickle says so: opcode PROTO and the number, which leaves room for later protocols.
    if let [0x80, 2..=9, next, ..] = head {
        return argument(*next).is_some();
    }
    walk(head, size)
}

/// How long an opcode's argument is.
#[derive(Clone, Copy)]
enum Argument {
    Bytes(usize),
    Lines(usize),
    /// A little-endian length of so many bytes, then that many bytes.
    Counted(usize),
}

fn argument(opcode: u8) -> Option<Argument> {
    let argument = match opcode {
        b'('
        | b')'
        | b'.'
        | b'0'
        | b'1'
        | b'2'
        | b'N'
        | b'Q'
        | b'R'
        | b'a'
        | b'b'
        | b'd'
        | b'}'
        | b'e'
        | b'l'
        | b']'
        | b'o'
        | b's'
        | b't'
        | b'u'
        | 0x81
        | 0x85..=0x89
        | 0x8f..=0x94
        | 0x97
        | 0x98 => Argument::Bytes(0),
        b'K' | b'h' | b'q' | 0x80 | 0x82 => Argument::Bytes(1),
        b'M' | 0x83 => Argument::Bytes(2),
        b'J' | b'j' | b'r' | 0x84 => Argument::Bytes(4),
        b'G' | 0x95 => Argument::Bytes(8),
        b'F' | b'I' | b'L' | b'P' | b'S' | b'V' | b'g' | b'p' => Argument::Lines(1),
        b'c' | b'i' => Argument::Lines(2),
        b'U' | b'C' | 0x8a | 0x8c => Argument::Counted(1),
        b'T' | b'X' | b'B' | 0x8b => Argument::Counted(4),
        0x8d | 0x8e | 0x96 => Argument::Counted(8),
        _ => return None,
    };
    Some(argument)
}

/// Reads opcodes until STOP, something else, or the end of the sample.
fn walk(head: &[u8], size: u64) -> bool {
    let is_whole = head.len() as u64 == size;
    let mut rest = head;
    let (mut seen, mut marks) = (0, 0_usize);
    while let Some((opcode, after)) = rest.split_first() {
        let Some(argument) = argument(*opcode) else { return false };
        if *opcode == b'.' {
            return seen > 0 && (after.is_empty() || after == b"\n" || !is_whole);
        }
        seen += 1;
        // Words of letters that happen to be opcodes fail here: some take back a MARK, which must be there.
        match opcode {
            b'(' => marks += 1,
            b'1' | b'd' | b'e' | b'i' | b'l' | b'o' | b't' | b'u' | 0x90 | 0x91 => match marks.checked_sub(1) {
                Some(left) => marks = left,
                None => return false,
            },
            _ => {}
        }
        match skip(after, argument) {
            Some(after) => rest = after,
            // The argument goes on beyond the sample.
            None => return !is_whole && seen >= OPCODES_MIN,
        }
    }
    !is_whole && seen >= OPCODES_MIN
}

fn skip(bytes: &[u8], argument: Argument) -> Option<&[u8]> {
    match argument {
        Argument::Bytes(count) => bytes.get(count..),
        Argument::Lines(count) => {
            let mut rest = bytes;
            for _ in 0..count {
                let end = rest.iter().position(|byte| *byte == b'\n')?;
                rest = rest.get(end + 1..)?;
            }
            Some(rest)
        }
        Argument::Counted(width) => {
            let (length, rest) = bytes.split_at_checked(width)?;
            let length =
                length.iter().rev().try_fold(0_usize, |sum, byte| Some(sum.checked_mul(256)? + usize::from(*byte)));
            rest.get(length?..)
        }
    }
}
