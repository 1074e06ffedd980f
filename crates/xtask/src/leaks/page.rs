use super::matrix::Matrix;
pub(crate) fn page(_: &Matrix<'_>) -> String {
    String::new()
}
