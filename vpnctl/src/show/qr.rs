//! A token as a QR code in half blocks, for a phone held to the screen.

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};

/// The widest code shown, quiet zone included: a terminal is at least this wide.
const WIDEST: usize = 80;

/// `text` as a QR code, or nothing if it would not fit on a terminal. With colours it is black on white as it should be;
/// without, the blocks are drawn light, which is right on a dark terminal and read by most scanners on any.
pub(crate) fn qr(text: &str, colour: bool) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let mut renderer = code.render::<Dense1x2>();
    if !colour {
        renderer.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark);
    }
    let image = renderer.build();
    if image.lines().any(|line| line.chars().count() > WIDEST) {
        return None;
    }
    let paint =
        |line: &str| if colour { format!("\x1b[30;107m{line}\x1b[0m\n") } else { format!("{line}\n") };
    Some(image.lines().map(paint).collect())
}

#[cfg(test)]
mod tests {
    use super::qr;

    #[test]
    fn a_token_becomes_half_blocks_that_fit_a_terminal() {
        let image = qr(&"tacet-invite1".repeat(24), false).unwrap();
        assert!(image.lines().count() > 20);
        assert!(image.chars().all(|c| " ▄▀█\n".contains(c)));
        let width = image.lines().next().unwrap().chars().count();
        assert!(image.lines().all(|line| line.chars().count() == width) && width <= 80);
    }

    #[test]
    fn what_does_not_fit_is_not_shown() {
        assert!(qr(&"a".repeat(2000), false).is_none());
    }
}
