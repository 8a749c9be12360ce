#!/usr/bin/env python3
"""three_days.py SEED OUTDIR: 140 synthetic traces (72 h at 10 s) of one web server worker, half leaks, half healthy.

Drawn so that a careful simple detector, tuned to them and with no hurry, has an F1 of about 0.89."""
import sys, os, csv
from multiprocessing import Pool
import numpy as np
from numba import njit

DT = 10.0
N = 25920
T = np.arange(N) * DT / 3600.0          # hours
LEAKS = ['steady', 'accelerating', 'stepwise', 'under_load', 'late', 'slow',
         'under_gc', 'under_daily', 'under_cache', 'under_allocnoise', 'under_bursts']
HEALTHY = ['warmup', 'lazy_heap', 'cache_fill', 'gc_sawtooth', 'surges', 'daily', 'alloc_plateau',
           'page_cache', 'batch', 'reload_step', 'constant', 'bounded_walk']


def logu(r, a, b):
    return float(np.exp(r.uniform(np.log(a), np.log(b))))


@njit(cache=True)
def ar1(e, a):
    y = np.empty_like(e)
    s = e[0]
    for i in range(e.size):
        s = a * s + np.sqrt(1 - a * a) * e[i]
        y[i] = s
    return y


@njit(cache=True)
def lag(x, a):
    y = np.empty_like(x)
    s = x[0]
    for i in range(x.size):
        s += a * (x[i] - s)
        y[i] = s
    return y


@njit(cache=True)
def retain(x, rho):
    """the allocator keeps freed pages for a while: rises at once, falls slowly"""
    y = np.empty_like(x)
    s = x[0]
    for i in range(x.size):
        if x[i] > s:
            s = x[i]
        else:
            s += rho * (x[i] - s)
        y[i] = s
    return y


@njit(cache=True)
def sawtooth(alloc, live, factor, jit, ret, promo, major_every):
    """garbage on top of live; collected at factor*live; promo = share only a major collection frees"""
    n = alloc.size
    y = np.empty(n)
    g = 0.0
    old = 0.0
    k = 0
    thr = factor * live[0] * jit[0]
    for i in range(n):
        g += alloc[i]
        if g > thr:
            k += 1
            old += promo * thr
            if k % major_every == 0:
                old = 0.0
            g = g * (1.0 - ret)
            thr = max(2.0, factor * live[i] * jit[k % jit.size])
            if g > 0.9 * thr:
                g = 0.5 * thr
        y[i] = g + old
    return y


@njit(cache=True)
def walk(e, lo, hi):
    y = np.empty_like(e)
    s = 0.5 * (lo + hi)
    for i in range(e.size):
        s += e[i]
        if s > hi:
            s = 2 * hi - s
        if s < lo:
            s = 2 * lo - s
        y[i] = s
    return y


def noise(r, sd, tau_h):
    return sd * ar1(r.standard_normal(N), float(np.exp(-DT / 3600 / tau_h)))


def smooth(x, tau_h):
    return lag(np.ascontiguousarray(x, dtype=float), 1 - float(np.exp(-DT / 3600 / tau_h)))


def make_load(r, daily, amp=None):
    base = logu(r, 2, 250)
    if daily:
        amp = r.uniform(0.35, 0.9) if amp is None else amp
        ph = r.uniform(0, 24)
        s = np.sin(2 * np.pi * (T - ph) / 24)
        s = s + 0.25 * r.uniform(-1, 1) * np.sin(4 * np.pi * (T - ph) / 24 + r.uniform(0, 6))
        dayf = 1 + r.uniform(-0.1, 0.1, 5)
        f = np.interp(T + (24 - ph), np.arange(5) * 24.0, dayf)
        x = (1 + amp * s) * f
    else:
        x = 1 + noise(r, r.uniform(0.02, 0.12), r.uniform(0.5, 5))
    x = np.maximum(x, 0.04) * np.exp(noise(r, r.uniform(0.04, 0.2), r.uniform(0.02, 0.3)))
    return base, x                                # x has mean about 1


def bursts(r, n, amp_lo, amp_hi, dur_lo, dur_hi, t0=0.5, t1=72.0):
    y = np.zeros(N)
    for _ in range(n):
        a, d, s = logu(r, amp_lo, amp_hi), logu(r, dur_lo, dur_hi), r.uniform(t0, t1)
        m = (T >= s) & (T < s + d)
        y[m] += a * np.minimum(1, np.minimum(T[m] - s, s + d - T[m]) / (0.2 * d))
    return y


def build(label, kind, r):
    """one try: anon and file (MiB), load; for leaks also the leak's own part"""
    leak = label == 'leak'
    daily = r.random() < 0.5 or kind in ('daily', 'under_load', 'under_daily')
    rate0, load = make_load(r, daily)
    base = logu(r, 50, 450)
    tau = logu(r, 0.02, 1.5)
    wamp = base * r.uniform(0.05, 0.8)
    anon = base + wamp * (1 - np.exp(-T / tau)) * r.uniform(0.85, 1) + 0.15 * wamp * (1 - np.exp(-T / (tau * 5)))
    size = base + wamp
    # memory that follows the requests (all traces, little), small correlated noise, slow wander
    w = size * logu(r, 0.005, 0.05 if not leak else 0.04)
    if kind in ('daily', 'under_daily'):
        w = size * r.uniform(0.12, 0.6)
    follow = w * smooth(load, logu(r, 0.05, 0.8))
    fast = noise(r, size * logu(r, 0.001, 0.012), logu(r, 0.01, 0.3))
    slow = noise(r, size * logu(r, 0.001, HARD['slow_sd']), r.uniform(1, 8))
    anon = anon + slow
    dyn = follow + np.maximum(fast, -0.03 * size)
    file = r.uniform(12, 80) * (1 - 0.5 * np.exp(-T / logu(r, 0.02, 0.5)))
    part = np.zeros(N)
    vis0 = 0.0                                     # the leak is plain only after this hour
    shares = load

    if leak:
        g72 = size * logu(r, HARD['g_lo'], 3.0)    # what leaks in 72 h
        g72 = min(max(g72, 60.0), 2500.0)
        rate = g72 / 72.0
        if kind in ('slow',) or (kind in ('under_gc', 'under_allocnoise', 'under_cache') and r.random() < 0.4):
            rate = logu(r, 1.0, 8.0)
        req = np.cumsum(load) * DT / 3600
        shape = T if r.random() < 0.4 else req / req[-1] * 72     # by the clock or by the requests
        if kind == 'accelerating':
            p = r.uniform(1.5, 3.0)
            part = rate * 72 * (T / 72) ** p
            vis0 = 20
        elif kind == 'stepwise':
            k = r.integers(10, 40)
            ts = np.sort(r.uniform(0, 72, k)) if r.random() < .5 else np.arange(k) * 72 / k + r.uniform(0, 72 / k)
            sz = rate * 72 / k * r.lognormal(0, 0.4, k)
            part = np.array([0.0])
            cs = np.concatenate([[0], np.cumsum(sz)])
            part = cs[np.searchsorted(ts, T, side='right')]
            vis0 = 20
        elif kind == 'under_load':
            th = r.uniform(0.5, 1.1)
            q = np.cumsum(np.maximum(load - th, 0))
            part = rate * 72 * q / q[-1]
            vis0 = 30
        elif kind == 'late':
            cp = r.choice([r.uniform(3, 12), r.uniform(12, 30), r.uniform(24, 46)])
            part = rate * 1.5 * np.maximum(shape - np.interp(cp, T, shape), 0)
            vis0 = cp + 10
        else:
            part = rate * shape
        part = smooth(part, 0.03)
        if kind == 'under_gc' or (kind in ('steady', 'slow', 'late', 'accelerating') and r.random() < 0.2):
            live = size * r.uniform(0.4, 0.8) + part
            f = r.uniform(0.15, 0.7)
            per = logu(r, 0.1, HARD['gc_per'])
            al = load * f * live[0] / (per * 360)
            dyn = dyn + sawtooth(al, live, f, r.uniform(0.75, 1.25, 997), r.uniform(0.8, 1.0),
                                 r.choice([0, r.uniform(0.02, 0.15)]), int(r.integers(3, 9)))
            vis0 = max(vis0, 8 * per)
        if kind == 'under_daily':
            vis0 = max(vis0, 42)
        if kind == 'under_cache' or (kind in ('steady', 'slow') and r.random() < 0.15):
            cap = size * r.uniform(0.3, 1.2)
            fill = logu(r, 0.5, 9)
            anon = anon + cap * (1 - np.exp(-req / fill))
            vis0 = max(vis0, 3.5 * fill + 10)
        if kind == 'under_allocnoise':
            amp = min(size * r.uniform(0.04, 0.12), rate * 30)
            dyn = dyn + walk(r.standard_normal(N) * amp * 0.5 / np.sqrt(360 * r.uniform(1, 5)), 0, amp)
            dyn = dyn + bursts(r, int(r.integers(10, 60)), amp * .1, amp * .6, 0.1, 2)
        if kind == 'under_bursts':
            vis0 = max(vis0, 30)
            dyn = dyn + bursts(r, int(r.integers(30, 160)), size * .05, size * 0.8, 0.03, 0.6)
        elif r.random() < 0.25:
            dyn = dyn + bursts(r, int(r.integers(2, 14)), size * .02, size * 0.25, 0.05, 1.5)
    else:
        req = np.cumsum(load) * DT / 3600
        if kind == 'warmup':
            a1, t1 = size * r.uniform(0.2, 1.0), logu(r, 1.0, HARD['warm_tau'])
            x = T if r.random() < 0.5 else req
            anon = anon + a1 * (1 - np.exp(-x / t1))
        elif kind == 'lazy_heap':
            xmx = size * r.uniform(0.5, 2.2)
            end = logu(r, 3.0, HARD['heap_end'])
            x = np.minimum(req / np.interp(end, T, req), 1)
            p = r.uniform(0.6, 1.0)
            h = xmx * x ** p
            if r.random() < 0.6:                   # grows in regions
                q = xmx / r.integers(8, 60)
                h = np.floor(h / q) * q
            anon = anon + smooth(h, 0.03)
            if r.random() < 0.4:                   # V8: returns a little of it
                dyn = dyn + sawtooth(load * 0.1 * size / (logu(r, .05, .7) * 360), np.full(N, size), 0.1,
                                     r.uniform(.75, 1.25, 997), 0.95, 0.0, 5)
        elif kind == 'cache_fill':
            cap = size * r.uniform(0.3, 2.5)
            if r.random() < 0.5:
                end = logu(r, 2.0, HARD['cache_end'])
                x = np.minimum(req / np.interp(end, T, req), 1)
                anon = anon + cap * x
            else:
                anon = anon + cap * (1 - np.exp(-req / logu(r, 0.3, HARD['cache_tau'])))
        elif kind == 'gc_sawtooth':
            f = r.uniform(0.2, 1.0)
            per = logu(r, 0.1, HARD['gc_per_h'])
            dyn = dyn + sawtooth(load * f * size / (per * 360), np.full(N, size), f, r.uniform(0.75, 1.25, 997),
                                 r.uniform(0.8, 1.0), r.choice([0, r.uniform(0.03, 0.25)]), int(r.integers(3, 8)))
        elif kind == 'surges':
            sg = bursts(r, int(r.integers(3, 10)), 0.7, 4.0, 0.4, 9.0, 1, 66)
            load = load + sg
            dyn = dyn + size * r.uniform(0.06, 0.2) * smooth(sg, logu(r, 0.1, 2.0))
        elif kind == 'alloc_plateau':
            k = int(r.integers(4, 16))
            ts = 0.5 + (HARD['plateau_end'] * r.uniform(0.3, 1)) * r.uniform(0, 1, k) ** r.uniform(1.0, 2.0)
            for s in ts:
                anon = anon + size * r.uniform(0.02, 0.12) * (T >= s)
        elif kind == 'page_cache':
            fa = size * r.uniform(0.3, 2.5)
            if r.random() < 0.5:
                file = file + fa * req / req[-1]
            else:
                file = file + fa * (1 - np.exp(-req / logu(r, 2, 20)))
        elif kind == 'batch':
            h0 = r.uniform(2, 23)
            d = r.uniform(0.5, 5)
            a = size * r.uniform(0.15, 1.0)
            for n, s in enumerate(np.arange(h0, 72, 24)):
                s += r.normal(0, 0.1)
                m = (T >= s) & (T < s + d)
                dyn[m] += a * r.uniform(.9, 1.1) * np.minimum(1, (T[m] - s) / (r.uniform(.1, .9) * d))
                load = load + r.uniform(0, .5) * m
            if r.random() < 0.5:                   # the first run leaves the heap higher
                anon = anon + a * r.uniform(0.05, 0.3) * (T >= h0 + d)
        elif kind == 'reload_step':
            for _ in range(int(r.integers(1, 3))):
                s = r.uniform(4, 56)
                a = size * r.uniform(0.1, 0.7) * (1 if r.random() < .8 else -.4)
                anon = anon + (T >= s) * a * (1 - 0.6 * np.exp(-np.maximum(T - s, 0) / logu(r, 0.05, 2.5)))
        elif kind == 'bounded_walk':
            amp = size * r.uniform(0.06, HARD['walk_amp'])
            x = walk(r.standard_normal(N) * amp / np.sqrt(360 * logu(r, 3, HARD['walk_tau'])), 0, amp)
            anon = anon + x
        if kind not in ('constant', 'surges', 'batch') and r.random() < 0.25:
            dyn = dyn + bursts(r, int(r.integers(2, 14)), size * .02, size * 0.25, 0.05, 1.5)
    dyn = retain(np.ascontiguousarray(dyn), 1 - float(np.exp(-DT / 3600 / logu(r, 0.03, 3.0))))
    return dict(anon=anon + dyn + part, file=file, part=part, load=load, rate0=rate0, vis0=vis0, size=size,
                rest=anon + dyn)


HARD = dict(slow_sd=0.016, g_lo=0.3, gc_per=4.0, warm_tau=9.0, heap_end=38.0, cache_end=38.0, cache_tau=9.5,
            gc_per_h=7.0, plateau_end=40.0, walk_amp=0.24, walk_tau=25.0, near=0.7, reach_lo=0.3, rough=1.3)


def block(x, h):
    k = int(h * 360)
    return x[:x.size // k * k].reshape(-1, k)


def healthy_plain(d, kind):
    """the whole trace must show that it does not go on rising"""
    a = d['anon']
    if kind in ('reload_step',):
        return True
    m = block(a, 24).mean(1)
    f6 = np.percentile(block(a, 6), 20, axis=1)
    lim = max(0.012 * a.max(), 0.12 * (a.max() - a.min()))
    if kind == 'bounded_walk':                     # its high was not at the end, and came down from it
        hi = int(np.argmax(f6))
        return hi <= 8 and f6[-2:].max() <= f6[:9].max()
    return m[2] - m[1] <= lim and f6[-1] - f6[8] <= max(0.04 * a.max(), 0.2 * (a.max() - a.min())) or \
        kind in ('daily', 'surges', 'batch') and m[2] - m[0] < 0.08 * a.max()


def leak_plain(d, n):
    """the whole (cut) trace must show the leak: its growth against all else that moves late in the trace"""
    g = d['part'][n - 1] - d['part'][n // 3]
    rest = d['rest'][n // 3:n]
    k = max(1, rest.size // 12)
    fl = np.percentile(rest[:k * 12].reshape(12, k), 10, axis=1)
    p = d['part']
    if p[n - 1] - p[n - n // 3] < 0.12 * p[n - 1]:   # it is still going on at the end
        return False
    return g >= max(18.0, HARD['rough'] * (fl.max() - fl.min()), 0.04 * rest.mean())


def one(args):
    seed, i, label, kind, name, out = args
    r = np.random.default_rng([seed, i])
    for tries in range(400):
        d = build(label, kind, r)
        rss = d['anon'] + d['file']
        if label == 'leak':
            reach = r.random() < 0.7
            if reach:
                lo = max(72 * HARD['reach_lo'], d['vis0'])
                tc = r.uniform(min(lo, 68), 71.9)
                k = int(tc * 360)
                limit = rss[:k].max()
                n = int(np.argmax(rss >= limit)) + 1
                if n / 360 < min(lo, 68) * 0.8:     # a peak long before is the limit: not this leak's doing
                    continue
            else:
                n = N
                late = d['part'][-1] - d['part'][N // 3]
                limit = rss.max() + late / 48 * 72 * (r.uniform(2, 5) - 1)
            if not leak_plain(d, n):
                continue
        else:
            n = N
            if not healthy_plain(d, kind):
                continue
            top = rss.max()
            limit = top * (r.uniform(1.05, 1.6) if r.random() < HARD['near'] else logu(r, 1.6, 4.0))
        break
    else:
        raise SystemExit('no trace for ' + kind)
    pg = lambda x: (np.maximum(np.round(x * 256), 1).astype(np.int64) * 4)
    anon, file = pg(d['anon'][:n]), pg(d['file'][:n])
    shm = np.full(n, 4 * int(r.integers(0, 3000)) if r.random() < 0.4 else 0)
    tot = anon + file + shm
    limit_kib = int(limit * 256) * 4 + int(shm[0])
    if label == 'leak' and n < N:
        limit_kib = int(tot[-1])
    load = d['load'][:n]
    rps = np.round(r.poisson(load * d['rate0'] * DT) / DT, 1)
    cost = logu(r, 0.1, 0.6) / d['rate0']           # cores per request rate: never far above one core
    cpu = np.cumsum((load * d['rate0'] * cost * np.exp(noise(r, 0.15, 0.03)[:n]) + 0.004) * DT * 100).astype(np.int64)
    thr = np.full(n, int(r.integers(1, 40)))
    fds = (r.integers(12, 60) + r.poisson(3 + 10 * np.minimum(load, 10)))
    has = r.random() < 0.5
    e = [''] * n
    cols = [(np.arange(n) * 10).tolist(), tot.tolist(), anon.tolist(), file.tolist(), shm.tolist(),
            [0] * n if r.random() < .9 else e, thr.tolist(), fds.tolist() if r.random() < .9 else e, cpu.tolist(),
            rps.tolist() if has else e]
    with open(os.path.join(out, name + '.csv'), 'w') as f:
        f.write('t_s,rss_kib,rss_anon_kib,rss_file_kib,rss_shmem_kib,vm_swap_kib,threads,fds,cpu_ticks,load_rps\n')
        f.write('\n'.join(','.join(map(str, row)) for row in zip(*cols)))
        f.write('\n')
    start_s = int(np.argmax(d['part'][:n] > 0)) * 10 if label == 'leak' else ''
    return name, label, limit_kib / 1024, kind, start_s, 10, n, tries


def main():
    seed, out = int(sys.argv[1]), sys.argv[2]
    os.makedirs(out, exist_ok=True)
    r = np.random.default_rng(seed)
    jobs = []
    for label, kinds in (('leak', LEAKS), ('healthy', HEALTHY)):
        ks = [kinds[i % len(kinds)] for i in range(70 // len(kinds) * len(kinds))]
        ks += list(r.choice(kinds, 70 - len(ks), replace=False))
        jobs += [(label, str(k)) for k in ks]
    order = r.permutation(len(jobs))
    jobs = [(seed, n, *jobs[j], 't%03d' % n, out) for n, j in enumerate(order)]
    with Pool(2) as p:
        res = p.map(one, jobs, chunksize=4)
    with open(os.path.join(out, 'labels.csv'), 'w') as f:
        w = csv.writer(f)
        w.writerow(['name', 'label', 'limit_mib', 'shape', 'leak_start_s', 'step_s'])
        for x in res:
            w.writerow(x[:6])
    lk = [x for x in res if x[1] == 'leak']
    print('written', len(res), 'leaks cut at the limit', sum(x[6] < N for x in lk), 'of', len(lk),
          'rejections', sum(x[7] for x in res))


if __name__ == '__main__':
    main()
