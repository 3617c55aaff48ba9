//! Distance bins of the target: `DesignFeaturizer.get_condition_template_feature` of PXDesign.
use super::N_DISTANCE_BIN;

/// Points from which on `torch.cdist` computes by a product of matrices, which rounds otherwise.
const MANY: usize = 25;

/// Bins of the distances between points: `[n, n]`, the number of boundaries (63 from 2 to 22 Å) that are below, to the bit as
/// `torch.cdist` in f32 on a CPU.
pub(super) fn bins(points: &[[f32; 3]]) -> Vec<u8> {
    let boundaries = boundaries();
    let distance = if points.len() > MANY { by_product } else { by_difference };
    let mut bins = Vec::with_capacity(points.len() * points.len());
    for &a in points {
        for &b in points {
            let d = distance(a, b);
            bins.push(boundaries.partition_point(|&boundary| d > boundary) as u8);
        }
    }
    bins
}

/// `torch.linspace(2, 22, 63)`: from both ends to the middle.
fn boundaries() -> [f32; N_DISTANCE_BIN - 1] {
    let n = N_DISTANCE_BIN - 1;
    let step = 20f32 / (n - 1) as f32;
    std::array::from_fn(|i| {
        if i < n / 2 { (i as f32).mul_add(step, 2.) } else { (-((n - 1 - i) as f32)).mul_add(step, 22.) }
    })
}

fn by_difference(a: [f32; 3], b: [f32; 3]) -> f32 {
    let d: [f32; 3] = std::array::from_fn(|i| a[i] - b[i]);
    (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).sqrt()
}

/// |a|² - 2ab + |b|² as one row of a product with five terms, summed in their order.
fn by_product(a: [f32; 3], b: [f32; 3]) -> f32 {
    let norm = |v: [f32; 3]| v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
    let left = [-2. * a[0], -2. * a[1], -2. * a[2], norm(a), 1.];
    let right = [b[0], b[1], b[2], 1., norm(b)];
    left.into_iter().zip(right).fold(0f32, |sum, (x, y)| x.mul_add(y, sum)).max(0.).sqrt()
}
