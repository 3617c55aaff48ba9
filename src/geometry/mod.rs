//! Rotations and rigid frames on the host, in f64: few values, many compositions.

mod superpose;

pub use superpose::superpose;

/// A point or a vector.
pub type Vec3 = [f64; 3];

/// A rotation, or what stands for one where a residue has none (all zero); row by row.
pub type Mat3 = [Vec3; 3];

/// `a - b`.
pub fn minus(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

/// `a + b`.
pub fn plus(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// `a * s`.
pub fn times(a: Vec3, s: f64) -> Vec3 {
    a.map(|x| x * s)
}

/// The scalar product.
pub fn dot(a: Vec3, b: Vec3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// The vector product.
pub fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// A rotation and a translation, in that order: a point x of the frame is at `rot x + trans` outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rigid {
    /// Rotation.
    pub rot: Mat3,
    /// Translation.
    pub trans: Vec3,
}

impl Rigid {
    /// Nothing turned or moved.
    pub const IDENTITY: Self = Self { rot: [[1., 0., 0.], [0., 1., 0.], [0., 0., 1.]], trans: [0.; 3] };

    /// The frame whose x axis has the direction `x`, with `in_plane` in its xy plane (AF2 SI Alg. 21); `normalize` says what becomes
    /// of vectors without length.
    pub fn from_two_vectors(x: Vec3, in_plane: Vec3, trans: Vec3, normalize: impl Fn(Vec3) -> Vec3) -> Self {
        let e0 = normalize(x);
        let e1 = normalize(minus(in_plane, times(e0, dot(in_plane, e0))));
        let e2 = cross(e0, e1);
        Self { rot: [0, 1, 2].map(|i| [e0[i], e1[i], e2[i]]), trans }
    }

    /// From the frame outside.
    pub fn apply(&self, x: Vec3) -> Vec3 {
        plus(self.rotate(x), self.trans)
    }

    /// The rotation alone.
    pub fn rotate(&self, x: Vec3) -> Vec3 {
        self.rot.map(|row| dot(row, x))
    }

    /// From outside into the frame.
    pub fn invert(&self, x: Vec3) -> Vec3 {
        let x = minus(x, self.trans);
        [0, 1, 2].map(|i| self.rot[0][i] * x[0] + self.rot[1][i] * x[1] + self.rot[2][i] * x[2])
    }

    /// This frame, with `inner` given in it: `inner` is applied first.
    pub fn compose(&self, inner: &Self) -> Self {
        let column = |j: usize| [inner.rot[0][j], inner.rot[1][j], inner.rot[2][j]];
        let columns = [0, 1, 2].map(|j| self.rotate(column(j)));
        Self { rot: [0, 1, 2].map(|i| columns.map(|c| c[i])), trans: self.apply(inner.trans) }
    }

    /// The same rotation, the translation in units that are `1 / scale` as long.
    pub fn scale_translation(&self, scale: f64) -> Self {
        Self { rot: self.rot, trans: times(self.trans, scale) }
    }
}

/// The rotation of the quaternion `(w, x, y, z)`, which need not have length 1.
pub fn rotation_of_quaternion([w, x, y, z]: [f64; 4]) -> Mat3 {
    let s = 2. / (w * w + x * x + y * y + z * z);
    [
        [1. - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)],
        [s * (x * y + w * z), 1. - s * (x * x + z * z), s * (y * z - w * x)],
        [s * (x * z - w * y), s * (y * z + w * x), 1. - s * (x * x + y * y)],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: Vec3, b: Vec3) -> bool {
        minus(a, b).iter().all(|d| d.abs() < 1e-12)
    }

    fn unit(v: Vec3) -> Vec3 {
        times(v, 1. / dot(v, v).sqrt())
    }

    #[test]
    fn quaternions_turn() {
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let about_z = rotation_of_quaternion([half * 3., 0., 0., half * 3.]);
        let rigid = Rigid { rot: about_z, trans: [0., 0., 5.] };
        assert!(close(rigid.apply([1., 0., 0.]), [0., 1., 5.]));
        assert!(close(rigid.invert([0., 1., 5.]), [1., 0., 0.]));
        assert_eq!(rotation_of_quaternion([1., 0., 0., 0.]), Rigid::IDENTITY.rot);
    }

    #[test]
    fn frames_compose() {
        let a = Rigid { rot: rotation_of_quaternion([1., 0.3, -0.2, 0.5]), trans: [1., 2., 3.] };
        let b = Rigid { rot: rotation_of_quaternion([0.2, 1., 0.4, -0.7]), trans: [-4., 0.5, 2.] };
        let x = [0.7, -1.1, 2.3];
        assert!(close(a.compose(&b).apply(x), a.apply(b.apply(x))));
        assert!(close(a.compose(&b).invert(a.apply(b.apply(x))), x));
        assert!(close(a.scale_translation(10.).trans, [10., 20., 30.]));
    }

    #[test]
    fn a_frame_from_three_points() {
        let frame = Rigid::from_two_vectors([2., 2., 0.], [0., 3., 0.], [1., 1., 1.], unit);
        assert!(close(frame.invert([3., 3., 1.]), [8f64.sqrt(), 0., 0.]));
        let y = frame.invert([1., 4., 1.]);
        assert!(y[1] > 0. && y[2].abs() < 1e-12);
    }
}
