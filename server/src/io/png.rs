//! Pictures as PNG files in memory.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

/// Returns `width` x `height` RGB pixels as a PNG file, nothing if their number is another.
#[must_use]
pub fn encode(rgb: &[u8], width: u32, height: u32) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    let encoder = PngEncoder::new(&mut file);
    encoder.write_image(rgb, width, height, ExtendedColorType::Rgb8).ok()?;
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_a_png_file() {
        let file = encode(&[255; 12], 2, 2).expect("12 bytes are 2 x 2 pixels");
        assert_eq!(file[1..4], *b"PNG");
    }
}
