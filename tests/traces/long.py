#!/usr/bin/env python3
"""gen.py SEED OUTDIR N - synthetic long memory traces of web servers (blind test).
Physics: requests arrive with rhythm and noise -> caches fill by requests, working
set follows requests, garbage is made by requests and collected, leaks grow by time
or by requests, an allocator layer decides what goes back to the system."""
import sys, os, csv
import numpy as np
from numba import njit

def lu(r, a, b):
    a, b = min(a, b), max(a, b)
    return float(np.exp(r.uniform(np.log(a), np.log(b))))
def un(r, a, b): return float(r.uniform(min(a, b), max(a, b)))

# ------------------------------------------------------------------ layers
@njit(cache=True)
def native_alloc(used, rel, slack, chunk):
    n = used.size; out = np.empty(n); rss = 0.0
    for i in range(n):
        u = used[i]
        if u > rss:
            rss = u if chunk <= 0 else np.ceil(u / chunk) * chunk
        else:
            gap = rss - u
            if gap > slack:
                rss -= rel * (gap - slack)
        out[i] = rss
    return out

@njit(cache=True)
def gc_heap(live, req, promo, H0, H1, hg, hfac, young, alloc, ret_frac, ret_rel, resid, U, V):
    n = live.size
    out = np.empty(n); full = np.zeros(n); yc = np.zeros(n)
    g = 0.0; y = 0.0; cum = 0.0; rss = 0.0; trig = 1.0
    for i in range(n):
        r = req[i]; cum += r
        H = H1 - (H1 - H0) * np.exp(-cum / hg) + hfac * live[i]
        a = r * alloc
        if young > 0:
            if a >= young:
                y = U[i] * young; yc[i] = a / young
            else:
                y += a
                if y > young:
                    y -= young; yc[i] = 1
                    y *= 0.5 + 0.5 * V[i]
        p = r * promo * (0.8 + 0.4 * V[i])
        did = 0.0
        if p >= H:
            g = U[i] * H; full[i] = p / H; did = 1.0
        else:
            g += p
            if g > H * trig:
                g = H * resid * (0.3 + U[i]); full[i] = 1; did = 1.0
                trig = 0.88 + 0.24 * V[i]
        need = live[i] + g + y
        if need > rss: rss = need
        elif did > 0: rss -= ret_frac * (rss - need)
        else: rss -= ret_rel * (rss - need)
        out[i] = rss
    return out, full, yc

@njit(cache=True)
def ou(z, a):
    n = z.size; o = np.empty(n); x = 0.0; s = np.sqrt(1 - a * a)
    x = z[0]
    for i in range(n):
        x = a * x + s * z[i]; o[i] = x
    return o

@njit(cache=True)
def lowpass(x, a):
    n = x.size; o = np.empty(n); v = 0.0
    for i in range(n):
        v += a * (x[i] - v); o[i] = v
    return o

@njit(cache=True)
def reflect(z, step, x0):
    n = z.size; o = np.empty(n); x = x0
    for i in range(n):
        x += step * z[i]
        if x < 0: x = -x
        if x > 1: x = 2 - x
        if x < 0: x = 0.0
        o[i] = x
    return o

def bounded_walk(r, n, dt, T, cross):
    """reflected random walk in [0,1]; cross = seconds to diffuse across"""
    st = np.sqrt(dt / cross)
    if r.random() < .5:
        return reflect(r.standard_normal(n), st, r.random())
    k = max(1, int(lu(r, 1, 40)))          # moves only now and then
    z = r.standard_normal(n) * (r.random(n) < 1 / k) * np.sqrt(k)
    return reflect(z, st, r.random())

# ------------------------------------------------------------------ load
def make_load(r, t, dt, T, kind, bootend, surge=None):
    n = t.size; h0 = un(r, 0, 24); d0 = r.integers(7)
    hh = t / 3600 + h0; hod = hh % 24; day = (np.floor(hh / 24).astype(int) + d0) % 7
    mean = lu(r, .5, 600)
    m = np.ones(n)
    if kind == 'daily':
        a = un(r, .35, 1.25); b = un(r, 0, .35); hp = un(r, 11, 20)
        if r.random() < .15: hp = un(r, 0, 24)
        m = np.exp(a * np.cos(2 * np.pi * (hod - hp) / 24) + b * np.cos(4 * np.pi * (hod - hp + un(r, -3, 3)) / 24))
        wk = un(r, .25, .9) if r.random() < .75 else un(r, 1.1, 1.7)
        if r.random() < .8:
            w = np.where(day >= 5, wk, 1.0)
            w = np.convolve(np.pad(w, int(3600 / dt), 'edge'), np.ones(int(7200 / dt) + 1) / (int(7200 / dt) + 1), 'same')[int(3600 / dt):int(3600 / dt) + n]
            m *= w
        df = np.exp(r.normal(0, un(r, .01, .08), 12))
        di = hh / 24
        m *= np.interp(di, np.arange(12), df)
    elif kind == 'office':                      # nearly nothing at night
        s, e = un(r, 7, 9.5), un(r, 16, 20)
        m = .03 + 1 / (1 + np.exp(-(hod - s) * 3)) * 1 / (1 + np.exp((hod - e) * 2))
        m[day >= 5] *= un(r, .1, .6)
        m = lowpass(m, min(1, dt / 900)); m[:int(900 / dt)] = np.maximum(m[:int(900 / dt)], .03)
    elif kind == 'step':                        # put behind a balancer later, or more clients
        k = r.integers(1, 4)
        for x in sorted(un(r, .03, .5) for _ in range(k)):
            m[t > x * T] *= un(r, .6, 2.2)
    elif kind == 'bursty':
        k = r.poisson(T / lu(r, 900, 4 * 3600)) + 1
        for _ in range(k):
            s = un(r, 0, T); d = lu(r, 40, 1800); m[(t >= s) & (t < s + d)] *= un(r, 1.5, 5)
    if surge is not None:
        s, d, f = surge
        sh = np.clip((t - s) / (d * .15), 0, 1) * np.clip((s + d - t) / (d * .3), 0, 1)
        m *= 1 + (f - 1) * np.clip(sh, 0, 1)
    slow = ou(r.standard_normal(n), np.exp(-dt / lu(r, 300, 5400)))
    m *= np.exp(un(r, .02, .16) * slow)
    m /= m.mean()
    lam = mean * m * np.clip((t - bootend) / max(dt, un(r, 5, 90)), 0, 1)
    lam[t < bootend] = 0
    req = r.poisson(lam * dt).astype(float)
    return lam, req, h0

def saturate(cum, R, hard):
    x = 1 - np.exp(-cum / R)
    return np.minimum(x, hard) / (min(hard, x[-1]) if x[-1] > 0 else 1)

HEALTHY = ['warmup', 'cache_fast', 'cache_slow', 'jvm_lazy', 'v8_lazy', 'gc_fast', 'gc_full', 'surge', 'daily',
           'plateau', 'frag_creep', 'page_cache', 'batch_nightly', 'batch_hourly', 'reload', 'rwalk', 'quantised', 'ttl_cache']
LEAKS = [('steady', .24), ('perreq', .16), ('rare', .08), ('accel', .14), ('step', .12), ('loadonly', .10), ('late', .16)]
DISTURB = [('plain', .12), ('daily', .2), ('gcfast', .1), ('gcfull', .13), ('cache', .15), ('batch', .1), ('surge', .05),
           ('reload', .05), ('rwalk', .07), ('frag', .03)]
AMB = ['amb_cache', 'amb_log', 'amb_frag', 'amb_gc_cache']
GRIDS = [((72, 10), .68), ((24, 10), .06), ((6, 2), .07), ((24, 30), .05), ((72, 60), .03), ((168, 60), .08), ((6, 10), .03)]

def pick(r, pairs):
    p = np.array([w for _, w in pairs], float)
    return pairs[r.choice(len(pairs), p=p / p.sum())][0]

def attempt(r, label, shape, dist, grid):
    Th, dt0 = grid; T = Th * 3600.0; n = int(T / dt0) + 1; dt = float(dt0)
    t = np.arange(n) * dt
    leak = label == 'leak'; healthy = label == 'healthy'; amb = label == 'ambiguous'
    # sizes: one law for what grows, leak or not
    rate = lu(r, .2, 200); G = rate * Th
    if G < 3: G = un(r, 3, 6)
    lo = max(15, G / 15); base = lu(r, lo, max(lo * 1.3, min(2500, G / .08)))
    # kind of runtime
    rt = pick(r, [('native', .27), ('cpy', .18), ('go', .16), ('v8', .2), ('jvm', .19)])
    if shape == 'jvm_lazy': rt = 'jvm'
    if shape == 'v8_lazy': rt = 'v8'
    if shape == 'gc_fast' or dist == 'gcfast': rt = pick(r, [('go', .3), ('v8', .45), ('jvm', .25)])
    if shape in ('gc_full', 'amb_gc_cache') or dist == 'gcfull': rt = pick(r, [('v8', .45), ('jvm', .45), ('go', .1)])
    if shape in ('plateau', 'frag_creep', 'amb_frag') or dist == 'frag': rt = pick(r, [('native', .55), ('cpy', .45)])
    if rt == 'jvm': base = max(base, un(r, 60, 180))
    elif rt == 'v8': base = max(base, un(r, 35, 70))
    lk = pick(r, [('daily', .5), ('flat', .22), ('bursty', .1), ('step', .1), ('office', .08)])
    if shape == 'daily' or dist == 'daily': lk = pick(r, [('daily', .8), ('office', .2)])
    if dist == 'plain' or shape in ('warmup', 'quantised'): lk = pick(r, [('flat', .6), ('daily', .4)])
    if shape == 'loadonly': lk = pick(r, [('daily', .6), ('bursty', .3), ('office', .1)])
    if leak and Th <= 24 and lk in ('daily', 'office') and shape not in ('steady', 'accel'):
        lk = pick(r, [('flat', .5), ('bursty', .3), ('step', .2)])      # one hill of load would tell nothing
    bootend = un(r, 1, 8) * (4 if rt == 'jvm' else 1)
    surge = None; sp = .12
    if shape == 'surge' or dist == 'surge' or r.random() < sp:
        smax = .45 if not leak else .7
        sd = un(r, .6, 6) * 3600 * min(1, Th / 36)
        surge = (un(r, .08, smax) * T, sd, un(r, 2, 7 if (shape == 'surge' or dist == 'surge') else 3))
    lam, req, h0 = make_load(r, t, dt, T, lk, bootend, surge)
    cum = np.cumsum(req); tot = cum[-1]; mean = tot / T
    nl = lam / max(lam.mean(), 1e-9)
    noise = r.gamma(k := lu(r, 3, 200), 1 / k, n)
    meas = req / dt / max(mean, 1e-9)
    info = {}
    mono = np.zeros(n)             # things that grow and must end
    nat = np.zeros(n); heap = np.zeros(n)
    isgc = rt in ('go', 'v8', 'jvm')
    hf = un(r, .3, .8) if isgc else 0.0
    gain = 1.0
    boot = 1 - np.exp(-t / (bootend * .45)); boot[0] = 0.01
    gogc = un(r, .4, 1.1) if rt == 'go' else 0
    hfac = gogc if rt == 'go' else (un(r, .05, .4) if r.random() < .6 else 0.0) if isgc else 0
    bl = base * hf / (1 + hfac)
    nat += (base * (1 - hf)) * boot; heap += bl * boot

    def S(lo, hi):                # size of a side effect, beside the main one
        return min(G * un(r, lo, hi), base * 1.5)
    def add(x, onheap=None):
        nonlocal nat, heap
        oh = isgc and (r.random() < .65 if onheap is None else onheap)
        if oh: heap = heap + x / (1 + hfac)
        else: nat = nat + x
        return x
    # warm-up: code, connections, JIT: by requests, minutes to an hour and a half
    W = base * un(r, .02, .25); wt = lu(r, 60, 3600) * min(1, Th / 24)
    if shape == 'warmup': W = G; wt = lu(r, 300, .08 * T)
    w = 1 - np.exp(-cum / (mean * wt) - t / (wt * 6)); mono += add(W * w, False)
    # cache
    C = 0; ct = 0
    if shape in ('cache_fast',): C = G; ct = lu(r, .004, .03) * T
    elif shape in ('cache_slow',): C = G; ct = un(r, .05, .17) * T
    elif shape == 'page_cache' or shape == 'ttl_cache': pass
    elif shape in ('amb_cache', 'amb_gc_cache'): C = G; ct = un(r, .3, .8) * T
    elif dist == 'cache': C = min(G * un(r, .3, 1.5), base * 4); ct = lu(r, .01, .09) * T
    elif r.random() < .35: C = S(.05, .4); ct = lu(r, .003, .08) * T
    if C:
        hard = un(r, .55, 1.2) if not amb else 2
        if r.random() < .25 and not amb:          # first by all keys once: straight line to the cap
            x = np.minimum(cum / (mean * ct * 2.2), 1)
        else: x = saturate(cum, mean * ct, hard)
        mono += add(C * x)
        if r.random() < .3:                      # evictions: small breathing beneath the cap
            add(-C * un(r, .01, .06) * x * bounded_walk(r, n, dt, T, lu(r, 3600, .1 * T)))
    if shape == 'amb_log':
        mono += add(G * np.log1p(cum / (mean * un(r, .03, .1) * T)) / np.log1p(1 / .06))
    if shape == 'amb_frag':
        mono += add(G * (1 - np.exp(-(t / (un(r, .35, .8) * T)) ** un(r, .6, .95))))
    # working set in flight
    A = base * lu(r, .003, .06)
    if shape == 'daily': A = G * un(r, .4, 1)
    if dist == 'daily': A = max(A, S(.05, .3))
    if shape in ('surge',): A = max(A, G * un(r, .2, .5))
    if dist == 'surge': A = max(A, S(.05, .2))
    if shape == 'quantised': A = base * lu(r, .001, .01)
    infl = A * (.75 * nl + .25 * meas) * noise if A < base * .05 else A * (nl * .9 + .1 * meas * noise)
    add(infl)
    # sessions kept for a while: follow the load with a delay
    if r.random() < .35 or shape == 'ttl_cache':
        tau = lu(r, 120, 7200) if shape != 'ttl_cache' else un(r, .01, .06) * T
        s = (S(.03, .15) if shape != 'ttl_cache' else G)
        add(s * lowpass(nl, min(1, dt / tau)))
    # fragmentation creep that ends
    if shape == 'frag_creep' or dist == 'frag' or r.random() < .12 and not amb:
        F = G if shape == 'frag_creep' else S(.05, .3)
        ft = un(r, .06, .16) * T if shape == 'frag_creep' else un(r, .02, .1) * T
        steps = r.gamma(.15, 1, n) * np.exp(-t / ft) * (nl + .05)
        x = np.cumsum(steps); mono += add(F * x / x[-1], False)
    # random walk within bounds
    if shape == 'rwalk' or dist == 'rwalk' or r.random() < .2:
        R_ = min(G, base * 1.2) if shape == 'rwalk' else S(.05, .4 if dist == 'rwalk' else .15)
        add(R_ * bounded_walk(r, n, dt, T, lu(r, T / 40, T / (5 if shape == 'rwalk' else 8))) * boot, False)
    # batch jobs
    bcpu = np.zeros(n); bmem = np.zeros(n); btimes = []
    isb = shape in ('batch_nightly', 'batch_hourly') or dist == 'batch' or r.random() < .15
    per = 0
    if isb:
        if shape == 'batch_nightly': per = 86400
        elif shape == 'batch_hourly': per = r.choice([900, 1800, 3600, 3600, 3600, 7200])
        else: per = r.choice([1800, 3600, 3600, 21600, 86400])
        if Th < 72 and per > 3600: per = 3600
        if Th < 24: per = r.choice([600, 900, 1800])
        M = G * un(r, .5, 1) if shape.startswith('batch') else S(.05, .4)
        M = min(M, base * 3)
        first = ((un(r, 0, 6) - h0) % 24) * 3600 if per == 86400 else un(r, .05, 1) * per
        b = first
        dur0 = un(r, 600, 5400) if per >= 21600 else un(r, .04, .3) * per
        while b < T:
            d = dur0 * un(r, .8, 1.25); m = M * np.exp(r.normal(0, .06))
            i = (t >= b) & (t < b + d); ph = (t[i] - b) / d
            bmem[i] = m * np.minimum(1, ph / un(r, .2, .8)); bcpu[i] = un(r, .3, .95); btimes.append(b)
            b += per
        add(bmem, False if r.random() < .7 else None)
    # reload
    if shape == 'reload' or dist == 'reload' or r.random() < .08:
        k = r.integers(1, 4) if r.random() < .35 else 1
        for _ in range(k):
            tr = un(r, .06, .55) * T
            x = (G / k if shape == 'reload' else S(.05, .3)) * (1 if r.random() < .8 or shape == 'reload' else -.2)
            ramp = np.clip((t - tr) / un(r, 5, 120), 0, 1)
            add(x * ramp, False)
            if r.random() < .5:
                add(base * un(r, .1, .5) * ((t > tr) & (t < tr + un(r, 15, 90))), False)
    # ---- the leak
    L = np.zeros(n); lstart = ''
    if leak:
        lstart = 0.0
        if shape == 'steady': inc = np.ones(n)
        elif shape == 'perreq': inc = req.copy()
        elif shape == 'rare':
            ev = lu(r, 60, 3000); p = ev / max(tot, ev)
            inc = r.binomial(req.astype(int), min(1, p)) * r.gamma(2, .5, n)
        elif shape == 'accel':
            p = un(r, .7, 2.2); g = (t / T) ** p if r.random() < .7 else np.expm1(t / T * un(r, 1.5, 3.2))
            inc = g * (nl if r.random() < .5 else 1)
        elif shape == 'step':
            inc = np.zeros(n)
            if btimes and len(btimes) >= 8 and r.random() < .6:
                ts = [b + dur0 for b in btimes]
            else:
                k = r.integers(8, 70); ts = r.uniform(.01, .99, k) * T if r.random() < .6 else (np.arange(k) + un(r, .2, .9)) * T / k
            for x in ts:
                i = int(x / dt)
                if i < n: inc[i] += r.gamma(4, .25)
            lstart = float(min(ts))
        elif shape == 'loadonly':
            th = np.quantile(lam, un(r, .5, .85)); inc = np.maximum(0, lam - th)
            if r.random() < .4: inc = (inc > 0) * req
            inc[t < 600] = 0
            lstart = float(t[np.argmax(inc > 0)])
        elif shape == 'late':
            lstart = un(r, .2, .62) * T
            inc = (t >= lstart) * (req if r.random() < .5 else 1.0)
            if r.random() < .2: inc = inc * (.3 + (t - lstart) / T)
        inc = np.where(t < bootend, 0, inc).astype(float)
        if inc.sum() <= 0: return None
        L = np.cumsum(inc); L *= G / L[-1]
        if shape == 'late': L *= 1 - lstart / T if r.random() < .6 else 1
        onheap = isgc and r.random() < .6
        info['onheap'] = onheap
    # ---- collections
    gccpu = np.zeros(n)
    if isgc:
        prim = shape in ('gc_fast', 'gc_full', 'jvm_lazy', 'v8_lazy') or dist in ('gcfast', 'gcfull')
        if healthy and prim: H1 = G
        elif prim: H1 = min(G * un(r, .1, .7), base * 2)
        else: H1 = min(G * un(r, .03, .25), base * .8)
        H1 = max(H1, 1.0)
        H0 = H1; hg = tot; young = 0.0; alloc = 0.0; fr = 0.0; rel = 0.0; resid = un(r, 0, .2)
        if rt == 'go':
            H1 *= .3; H0 = H1
            P = max(lu(r, 1, 400), bl * .01); fr = un(r, 0, .3); rel = dt / lu(r, 200, 1500)
            if shape == 'gc_full' or dist == 'gcfull': P = lu(r, 900, .06 * T); fr = un(r, .5, .9); H1 /= .3; H0 = H1
        elif rt == 'v8':
            young = lu(r, 1, 32); young = min(young, max(1, H1)); alloc = young / (mean * lu(r, .3, 120))
            P = lu(r, 20, 1200) * min(1, Th / 12); fr = un(r, .6, 1); rel = dt / lu(r, 600, 20000)
            if shape == 'gc_full' or dist == 'gcfull': P = lu(r, 2400, (.2 if not leak else .12) * T) if Th > 6 else lu(r, 600, .13 * T)
            if shape == 'v8_lazy': H0 = H1 * un(r, .05, .3); hg = tot * un(r, .02, .13); P = lu(r, 60, .04 * T)
            elif r.random() < .3: H0 = H1 * un(r, .3, .8); hg = tot * un(r, .01, .08)
        else:
            young = H1 * un(r, .1, .6); alloc = young / (mean * lu(r, 2, 900)); H1 = max(H1 - young, 1); H0 = H1
            P = lu(r, 600, .1 * T) if Th > 6 else lu(r, 200, .1 * T); fr = 0.0
            if shape == 'jvm_lazy':
                P = un(r, .04, .5) * T
                alloc = young / (mean * lu(r, 20, .1 * T))
                if r.random() < .3: H0 = H1 * un(r, .2, .6); hg = tot * un(r, .05, .15); P *= .3
            elif shape == 'gc_full' or dist == 'gcfull':
                fr = un(r, .6, 1); rel = dt / lu(r, 600, 20000)
                P = lu(r, 2400, (.22 if not leak else .12) * T) if Th > 6 else lu(r, 600, .13 * T)
            elif shape == 'gc_fast' or dist == 'gcfast':
                fr = un(r, .3, 1); P = lu(r, 120, 3000); rel = dt / lu(r, 60, 3000)
            elif leak and info['onheap']: fr = un(r, .5, 1); rel = dt / lu(r, 600, 20000)
        promo = (H1 + hfac * heap.mean()) / (mean * P)
        if leak and onheap: heap = heap + L / (1 + hfac)
        elif leak: nat = nat + L
        hr, full, yc = gc_heap(heap, req, promo, H0, H1, hg, hfac, young, alloc, fr, rel, resid, r.random(n), r.random(n))
        gccpu = full * (.004 + heap * lu(r, .0004, .003)) + yc * (.001 + young * un(r, .0001, .0008))
        info['nfull'] = float(full.sum())
    else:
        if leak: nat = nat + L
        if rt == 'cpy' and r.random() < .6:        # generation-2 collections of cycles
            P = lu(r, 120, .03 * T); Hc = S(.01, .08)
            hr, full, yc = gc_heap(np.zeros(n), req, Hc / (mean * P), Hc, Hc, tot, 0., 0., 0., 1., 0., .1, r.random(n), r.random(n))
            gccpu = full * .05 * un(r, .3, 3)
            nat = nat + hr; hr = 0
        else: hr = 0
    # ---- the allocator beneath
    how = pick(r, [('never', .4), ('slow', .35), ('fast', .25)])
    if shape in ('plateau',): how = 'never'
    if shape == 'daily' and how == 'never': how = 'fast'
    if shape.startswith('batch') and r.random() < .8: how = 'fast'
    if shape == 'rwalk' or dist == 'rwalk': how = 'fast'
    if dist in ('daily', 'batch', 'surge') and r.random() < .6: how = 'fast'
    rel = {'never': 0.0, 'slow': dt / lu(r, 1800, 8 * 3600), 'fast': min(1, dt / lu(r, 10, 600))}[how]
    if shape == 'plateau':                        # peaks of work leave their high water
        pk = np.zeros(n)
        for _ in range(r.integers(4, 40)):
            s = un(r, 0, 1) ** 1.3 * T; d = lu(r, 20, 1800)
            i = (t >= s) & (t < s + d); pk[i] = np.maximum(pk[i], G * min(1, r.beta(2.5, 1) * (.25 + s / T * un(r, 1, 3))))
        nat = nat + pk
    q = 0.0
    if shape == 'quantised': q = r.choice([.25, 1., 2., 4., 8.])
    elif r.random() < .22: q = r.choice([.0625, .25, 1., 2.])
    q = min(q, max(.0625, G / 12))
    anon = native_alloc(nat, rel, base * un(r, 0, .01), q if shape != 'quantised' else 0) + hr
    if shape == 'quantised' or q and r.random() < .4:
        anon = np.ceil(anon / q) * q
        info['q'] = q
    # ---- file pages
    fbase = un(r, 3, 60) * (1 - np.exp(-t / un(r, 2, 60))) * (1 + .1 * (1 - np.exp(-t / un(r, 600, 5000))))
    pc = np.zeros(n)
    cols = pick(r, [('both', .35), ('anon', .35), ('rss', .3)])
    if shape == 'page_cache': cols = 'both'
    if shape == 'page_cache' or cols == 'both' and r.random() < .3:
        P_ = G if shape == 'page_cache' else S(.1, .8); kind = pick(r, [('fill', .4), ('grow', .35), ('reclaim', .25)])
        if kind == 'fill': pc = P_ * (1 - np.exp(-cum / (tot * un(r, .02, .3))))
        elif kind == 'grow': pc = P_ * cum / tot
        else:
            k = r.integers(2, 12); x = (cum / tot * k + un(r, 0, 1)); pc = P_ * (x % 1) * (1 - np.exp(-t / 300)); 
        if r.random() < .5: pc = np.ceil(pc * 4) / 4
        info['pc'] = kind
    # ---- is it what its label says?
    wlen = max(1, int(max(3600.0 * min(1, Th / 24), T / 168) / dt)); m = n // wlen
    fl = anon[:m * wlen].reshape(m, wlen).min(1); md = np.median(anon[:m * wlen].reshape(m, wlen), 1)
    Lf = L[:m * wlen].reshape(m, wlen).mean(1); tf = (np.arange(m) + .5) * wlen * dt
    mg = mono - mono[0]; settled = t[np.argmax(mg >= .95 * mg[-1])]
    tw = min(max(settled, .03 * T), .45 * T)
    iw = int(tw / dt)
    L0 = float(np.min(anon[iw:iw + max(3, int(.01 * n))])); end = float(np.median(anon[-max(3, int(.02 * n)):]))
    peak_anon = float(anon.max()); tot_mem = anon + fbase + pc
    if leak:
        ok = tf >= tw; X = np.stack([Lf[ok], np.ones(ok.sum())], 1)
        if ok.sum() < 5: return None
        co, *_ = np.linalg.lstsq(X, fl[ok], rcond=None); res = fl[ok] - X @ co
        vis = co[0] * (Lf[ok][-1] - Lf[ok][0])
        if vis < 3 * res.std() or co[0] < .4: return None
        # what the floors show by themselves, without knowing the leak
        s0 = max(tw, lstart); k0 = max(1, int(.06 * m)); a0 = np.argmin(np.abs(tf - s0))
        if a0 > m - 4: return None
        g = np.median(fl[-k0:]) - np.median(fl[a0:a0 + k0])
        if g < 2.5 * res.std() or g < max(1.5, .03 * L0): return None
        if (T - s0) < .36 * T: return None
        if end - L0 < .045 * L0: return None
        # it really goes on to the end (but for night pauses)
        half = fl[len(fl) // 2:]
        if half[-max(2, m // 25):].max() < half.max() - .35 * (half.max() - fl[a0]): return None
        # ... also in its last part against the part before, as memory shows it
        W = 24 * 3600 if Th >= 72 else T / 3
        wa, wb = (tf > T - 2 * W) & (tf <= T - W), tf > T - W
        dL = Lf[wb].mean() - Lf[wa].mean(); dF = fl[wb].min() - fl[wa].min(); dM = np.median(md[wb]) - np.median(md[wa])
        if dL < .08 * L[-1] or dF < .5 * dL or dM < .5 * dL: return None
        if fl[wb].max() < np.quantile(fl[~wb], .97) + .3 * dL: return None    # beyond all but a passing surge
        if len(np.unique(fl[wb])) < 3: return None
        info['rate'] = g / ((T - s0) / 3600)
    else:
        i6 = int(.6 * n); j6 = int(.6 * m)
        late_rise = mono[-1] - mono[i6]
        q3 = max(1, int(.02 * m)); rng = max(fl[q3:].max() - fl[q3:].min(), md[q3:].max() - md[q3:].min()); rn0 = fl[1:].max() - fl[1:].min()
        if healthy:
            if late_rise > .02 * (mono[-1] - mono[i6 // 60]) + .1 and late_rise > .015 * G: return None
            tol = .05 * rng + .003 * fl[-1] + .1
            if shape not in ('daily', 'rwalk', 'gc_full', 'gc_fast', 'v8_lazy', 'ttl_cache', 'surge'): tol = min(tol, .009 * fl[-1] + .1)
            if fl[j6:].max() > fl[:j6].max() + tol or md[j6:].max() > md[:j6].max() + tol: return None
            if shape == 'rwalk' or dist == 'rwalk': pass
            # the main thing has to be seen
            if shape in ('cache_fast', 'cache_slow', 'warmup', 'frag_creep', 'jvm_lazy', 'daily', 'rwalk', 'reload') and max(rng, rn0) < .03 * peak_anon: return None
            if shape == 'gc_full' and info['nfull'] < 4: return None
            if shape == 'v8_lazy' and info['nfull'] < 12: return None
            if shape == 'jvm_lazy' and info['nfull'] < 1: return None
        else:
            if late_rise < .06 * G: return None
            j3 = int(.3 * n); r1 = mono[j3] - mono[int(.02 * n)]; r3 = mono[-1] - mono[int(.7 * n)]
            if r3 > .6 * r1: return None
            if md[-max(2, m // 20):].mean() < md[j6] + .3 * late_rise: return None
    # ---- limit
    shown_max = float((tot_mem if cols != 'anon' else anon).max())
    lim = None
    add_f = float(fbase[-1]) if cols == 'rss' else 0.0
    for _ in range(60):
        rr = un(r, .38, .87); c = shown_max / rr
        if r.random() < .5:
            g_ = 2.0 ** np.floor(np.log2(c) - 2); c = np.round(c / g_) * g_
        c = float(np.ceil(c))
        if not .38 <= shown_max / c <= .87: continue
        if leak:
            u = (end - L0) / (c - L0 - add_f)
            if not .2 <= u <= .85: continue
        lim = int(c); break
    if lim is None: return None
    if lim > 49152: return None
    # ---- CPU
    util = lu(r, .01, .7) * (2 if r.random() < .15 else 1)
    cpu = dt * (un(r, .0003, .006) + util * meas * r.gamma(30, 1 / 30., n)) + gccpu + bcpu * dt
    cpu += un(r, .3, 12) * (np.exp(-t / (bootend * .6)) - np.exp(-(t + dt) / (bootend * .6)))
    if rt == 'jvm': cpu += dt * un(r, .05, .8) * np.exp(-cum / (mean * lu(r, 100, 1500))) * (req > 0)
    cpu = np.minimum(cpu, dt * r.choice([2, 4, 8, 16])); cpu[0] = un(r, 0, .02)
    ticks = np.floor(np.cumsum(cpu) * 100).astype(np.int64)
    conns = lowpass(lam, min(1, dt / lu(r, 20, 400))) * un(r, .02, 1.5)
    pool = int(lu(r, 1, 60))
    thr = 1 + np.minimum(pool, np.maximum.accumulate(np.ceil(t / 3))) + (np.round(lowpass(nl, .2) * pool * .2) if r.random() < .3 else 0)
    fds = int(un(r, 8, 60)) + r.poisson(np.clip(conns, 0, 8000))
    if leak and r.random() < .2 and nat is not None:
        fds = fds + np.floor(L / lu(r, .02, .5)).astype(int); info['fdleak'] = 1
    # ---- columns, rows
    hdr = ['t_s']; data = []
    jit = r.integers(0, 64, n) * 4 * (r.random() < .25)
    ak = (np.round(anon * 256) * 4).astype(np.int64); fk = (np.round((fbase + pc) * 256) * 4).astype(np.int64)
    rk = ak + fk + jit
    if cols in ('both', 'rss'): hdr.append('rss_kib'); data.append(rk)
    if cols in ('both', 'anon'): hdr.append('rss_anon_kib'); data.append(ak)
    hasc = r.random() < .8; hasl = r.random() < .62; hasx = r.random() < .2
    keep = np.ones(n, bool); tt = t.copy(); disturb_rows = ''
    x = r.random()
    if x < .1:
        for _ in range(r.integers(1, 6)):
            s = un(r, .02, .95) * T; keep[(t > s) & (t < s + min(lu(r, 120, 4 * 3600), .06 * T))] = False
        disturb_rows = 'gaps'
    elif x < .2:
        tt = t + np.clip(r.normal(0, un(r, .03, .2), n), -.45, .45) * dt; tt[0] = t[0] + un(r, 0, .1)
        keep = r.random(n) > un(r, 0, .1); disturb_rows = 'uneven'
    elif x < .23:
        keep = r.random(n) > un(r, .2, .6); disturb_rows = 'thinned'
    keep[0] = keep[-1] = True
    idx = np.flatnonzero(keep); tt = np.round(tt[idx], 1)
    cr = cum[idx]; rps = np.zeros(idx.size); rps[1:] = np.diff(cr) / np.maximum(np.diff(tt), .1)
    blank = np.zeros(idx.size, bool)
    if r.random() < .12:
        for _ in range(r.integers(1, 5)):
            s = un(r, 0, T); blank |= (tt > s) & (tt < s + lu(r, 60, .04 * T))
    cs = [('%.1f' % v) for v in tt]
    columns = [cs] + [[str(v) for v in d[idx]] for d in data]
    if hasc:
        hdr.append('cpu_ticks'); columns.append([str(v) for v in ticks[idx]])
    if hasl:
        hdr.append('load_rps'); columns.append(['' if b else '%.2f' % v for v, b in zip(rps, blank)])
    if hasx:
        hdr += ['threads', 'fds']; columns += [[str(int(v)) for v in thr[idx]], [str(int(v)) for v in fds[idx]]]
    info.update(rt=rt, load=lk, base=base, G=G, how=how, rows=disturb_rows, L0=L0, end=end, peak=shown_max, cols=cols, Th=Th)
    return hdr, columns, lim, lstart, info

def main():
    seed, out, N = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    os.makedirs(out, exist_ok=True)
    for f in os.listdir(out):
        if f.endswith('.csv'): os.remove(os.path.join(out, f))
    r0 = np.random.default_rng(seed)
    na = round(.08 * N); nl = (N - na + 1) // 2; nh = N - na - nl
    jobs = []
    hs = (HEALTHY * (nh // len(HEALTHY) + 1)); extra = hs[:nh // len(HEALTHY) * len(HEALTHY)] + list(r0.permutation(HEALTHY)[:nh % len(HEALTHY)])
    jobs += [('healthy', str(s), None) for s in extra]
    jobs += [('leak', pick(r0, LEAKS), pick(r0, DISTURB)) for _ in range(nl)]
    jobs += [('ambiguous', AMB[r0.integers(len(AMB))], None) for _ in range(na)]
    jobs = [jobs[i] for i in r0.permutation(len(jobs))]
    lab = csv.writer(open(os.path.join(out, 'labels.csv'), 'w'), lineterminator='\n')
    lab.writerow(['name', 'label', 'limit_mib', 'shape', 'leak_start_s', 'step_s'])
    log = csv.writer(open(os.path.join(out, '..', 'info_%d.txt' % seed), 'w'), lineterminator='\n', delimiter='\t')
    for k, (label, shape, dist) in enumerate(jobs):
        r = np.random.default_rng([seed, k]); grid = pick(r, GRIDS)
        tries = 0
        while True:
            tries += 1
            if tries % 80 == 0 or shape in ('daily', 'batch_nightly') and grid[0] < 72 or dist == 'daily' and grid[0] < 72 or shape == 'loadonly' and grid[0] < 24:
                grid = pick(r, GRIDS)
                if tries < 2000 and (shape in ('daily', 'batch_nightly') and grid[0] < 72 or dist == 'daily' and grid[0] < 72 or shape == 'loadonly' and grid[0] < 24): continue
            res = attempt(r, label, shape, dist, grid)
            if res is not None: break
        hdr, columns, lim, lstart, info = res
        name = 's%dx%03d' % (seed, k)
        with open(os.path.join(out, name + '.csv'), 'w') as f:
            f.write(','.join(hdr) + '\n'); f.write('\n'.join(','.join(x) for x in zip(*columns))); f.write('\n')
        sh = shape if dist is None else shape + '+' + dist
        lab.writerow([name, label, lim, sh, '' if lstart == '' else '%.1f' % lstart, grid[1]])
        log.writerow([name, label, sh, tries] + ['%s=%s' % (a, ('%.3g' % b if isinstance(b, float) else b)) for a, b in info.items()])

main()
