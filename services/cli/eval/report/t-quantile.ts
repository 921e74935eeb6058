/** 97.5 % of the standard normal distribution lie below it: two-sided 95 %. */
export const NORMAL_QUANTILE = 1.959963984540054;

/** The same of Student's t for 1, 2, ... degrees of freedom, where the series below is too coarse. */
const FEW_DEGREES = [
  12.706204736432095, 4.302652729911275, 3.182446305284263, 2.7764451051977987, 2.570581835636314,
  2.4469118487916806, 2.3646242510102993, 2.3060041352041662, 2.2621571627409915,
  2.2281388519649385,
];

/**
 * The 97.5 % quantile of Student's t. From 11 degrees of freedom on by Cornish and Fisher's series,
 * which is right to 1e-4 there.
 */
export function tQuantile(degrees: number): number {
  const known = FEW_DEGREES[degrees - 1];
  if (known !== undefined) return known;
  const z = NORMAL_QUANTILE;
  const [z3, z5, z7, z9] = [z ** 3, z ** 5, z ** 7, z ** 9];
  return (
    z +
    (z3 + z) / (4 * degrees) +
    (5 * z5 + 16 * z3 + 3 * z) / (96 * degrees ** 2) +
    (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * degrees ** 3) +
    (79 * z9 + 776 * z7 + 1482 * z5 - 1920 * z3 - 945 * z) / (92_160 * degrees ** 4)
  );
}
