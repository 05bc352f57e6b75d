// PyTorch's random numbers: the same seed gives the same noise, hence the same picture.
//
// torch.randn on a CPU takes 32-bit numbers from the Mersenne Twister MT19937
// (Matsumoto & Nishimura 1998), keeps 24 bits of each as a uniform number in [0, 1),
// and turns blocks of sixteen into normal ones by the method of Box & Muller (1958):
// the first eight give the radii, the last eight the angles.

const N = 624;
const M = 397;

/** normal(n): the numbers that torch.randn(n, generator=...) gives, call after call,
 * for a torch.Generator().manual_seed(seed), 0 <= seed < 2**32, and n >= 16. */
export function dice(seed) {
  const state = new Uint32Array(N);
  state[0] = seed;
  for (let i = 1; i < N; i++)
    state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  let next = N;

  function twist() {
    for (let i = 0; i < N; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % N] & 0x7fffffff);
      state[i] = state[(i + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    next = 0;
  }

  function uniform() {
    if (next === N) twist();
    let y = state[next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return (y & 0xffffff) / 2 ** 24;
  }

  return function normal(n) {
    const x = Float32Array.from({ length: n }, uniform);
    const block = (start) => {
      for (let i = start; i < start + 8; i++) {
        const radius = Math.sqrt(-2 * Math.log(1 - x[i]));
        const angle = 2 * Math.PI * x[i + 8];
        x[i] = radius * Math.cos(angle);
        x[i + 8] = radius * Math.sin(angle);
      }
    };
    for (let start = 0; start + 16 <= n; start += 16) block(start);
    if (n % 16) {
      // what is left over: the last sixteen are drawn again
      for (let i = n - 16; i < n; i++) x[i] = uniform();
      block(n - 16);
    }
    return x;
  };
}
