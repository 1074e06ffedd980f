//! Covers of products that have none: a landscape, drawn from the id alone.

use crate::html::lasting;

/// Its path at the delivery server.
pub(crate) fn path(product: &str) -> String {
    format!("/drawings/{}", lasting(product, &of(product), "svg"))
}

/// A cover: hills under a sky, drawn from the product's id alone.
pub(crate) fn of(product: &str) -> String {
    let digest = *blake3::hash(product.as_bytes()).as_bytes();
    let at = |nth: usize, most: u32| u32::from(digest[nth]) * most / 255;
    let sky = at(0, 360);
    let (sun_x, sun_y, sun) = (80 + at(1, 480), 60 + at(2, 140), 24 + at(3, 40));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 480\">\
         <rect width=\"640\" height=\"480\" fill=\"hsl({sky} 45% 82%)\"/>\
         <circle cx=\"{sun_x}\" cy=\"{sun_y}\" r=\"{sun}\" fill=\"hsl({} 80% 92%)\"/>",
        (sky + 40) % 360
    );
    for hill in 0..4_u32 {
        let nth = 4 + 3 * hill as usize;
        let level = 220 + hill * 62;
        let (left, middle, right) = (at(nth, 110), at(nth + 1, 140), at(nth + 2, 110));
        let light = 66 - hill * 13;
        svg.push_str(&format!(
            "<path d=\"M0 {} C160 {} 260 {} 380 {} S560 {} 640 {} V480 H0Z\" fill=\"hsl({} 32% {light}%)\"/>",
            level + left / 2,
            level - left / 2,
            level + middle / 2,
            level - middle / 3,
            level + right / 2,
            level - right / 3,
            (sky + 150 + hill * 9) % 360,
        ));
    }
    svg.push_str("</svg>");
    svg
}
