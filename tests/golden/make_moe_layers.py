#!/usr/bin/env python3
"""One-layer goldens for router and expert kinds, with gradients and balance losses.

    python make_moe_layers.py [--seed N] [--out DIR] [--variant public|hidden]

Every stored number comes from the float64 reference in this file, written from the papers; the shipped cases were also compared with public
code on the same weights, and the differences stand in golden.json ("checked_against"). Needs torch, numpy, safetensors.
"""
import argparse
import json
import math
import os
import shutil
import sys
import warnings

warnings.filterwarnings("ignore")
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
PUBLIC = dict(T=19, D=18, F=14, E=5, k=2, seed=3301)
HIDDEN = dict(T=26, D=22, F=13, E=7, k=3, seed=8803)


# --------------------------------------------------------------------------------------------------- reference: experts
def glu(x, w, p):
    """w_down (silu(w_gate x) * w_up x)"""
    return (F.silu(x @ w[p + "w_gate"].T) * (x @ w[p + "w_up"].T)) @ w[p + "w_down"].T


def mlp(x, w, p, act):
    """w_2 act(w_1 x + b_1) + b_2"""
    return act(x @ w[p + "w_1"].T + w[p + "b_1"]) @ w[p + "w_2"].T + w[p + "b_2"]


def gelu_tanh(x):
    return F.gelu(x, approximate="tanh")


def mix(ids, gates, outs):
    """Sum over slots; outs is [E, T, D]; a slot with id -1 is empty."""
    T, k = ids.shape
    y = 0
    for j in range(k):
        safe = ids[:, j].clamp(min=0)
        on = (ids[:, j] >= 0).to(gates.dtype)[:, None]
        y = y + on * gates[:, j:j + 1] * outs[safe, torch.arange(T)]
    return y


def best(score, k):
    """Indices of the k best, best first, ties to the lower index."""
    return torch.sort(score, dim=1, descending=True, stable=True).indices[:, :k]


# --------------------------------------------------------------------------------------------- reference: balance losses
def aux_mixtral(p, ids, E):
    """E * sum_e f_e P_e, f_e counts every pick (sums to k)."""
    f = F.one_hot(ids, E).to(p.dtype).mean(0).sum(0)
    return E * (f * p.mean(0)).sum()


def aux_first(p, ids, E):
    """E * sum_e f_e P_e with f_e from the first pick only (Switch, GShard, DeepSpeed; CuMo and MoCHA the same)."""
    return E * (F.one_hot(ids[:, 0], E).to(p.dtype).mean(0) * p.mean(0)).sum()


def z_loss(logits):
    return (torch.logsumexp(logits, -1) ** 2).mean()


# ---------------------------------------------------------------------------------------------------------------- kinds
# Each kind: weights(cfg, rng) -> dict of arrays; run(x, w, cfg, extra) -> dict with ids [T,k], gates [T,k], output, logits, aux{}
def glu_weights(rng, prefix, D, Fd):
    return {prefix + "w_gate": rng((Fd, D), D), prefix + "w_up": rng((Fd, D), D), prefix + "w_down": rng((D, Fd), Fd)}


def mlp_weights(rng, prefix, Din, Fd, Dout):
    return {prefix + "w_1": rng((Fd, Din), Din), prefix + "b_1": rng((Fd,), 25), prefix + "w_2": rng((Dout, Fd), Fd),
            prefix + "b_2": rng((Dout,), 25)}


def base(c, rng):
    w = {"router.weight": rng((c["E"], c["D"]), c["D"], 1.3)}
    for e in range(c["E"]):
        w.update(glu_weights(rng, f"experts.{e}.", c["D"], c["F"]))
    return w


def glu_outs(x, w, E):
    return torch.stack([glu(x, w, f"experts.{e}.") for e in range(E)])


def k_softmax_topk(x, w, c, ex):
    l = x @ w["router.weight"].T
    p = torch.softmax(l, 1)
    ids = best(p, c["k"])
    g = p.gather(1, ids)
    return dict(logits=l, ids=ids, gates=g, output=mix(ids, g, glu_outs(x, w, c["E"])), aux=dict(balance_all_picks=aux_mixtral(p, ids, c["E"])))


def k_mixtral(x, w, c, ex):
    l = x @ w["router.weight"].T
    p = torch.softmax(l, 1)
    ids = best(p, c["k"])
    g = p.gather(1, ids)
    g = g / g.sum(1, keepdim=True)
    return dict(logits=l, ids=ids, gates=g, output=mix(ids, g, glu_outs(x, w, c["E"])),
                aux=dict(balance_all_picks=aux_mixtral(p, ids, c["E"]), balance_first_pick=aux_first(p, ids, c["E"]), z=z_loss(l)))


def k_unimoe_v1(x, w, c, ex):
    l = x @ w["router.weight"].T
    ids = best(l, c["k"])
    g = torch.softmax(l.gather(1, ids), 1)
    return dict(logits=l, ids=ids, gates=g, output=mix(ids, g, glu_outs(x, w, c["E"])), aux={})


def capacity(T, E, f, min_capacity):
    """ceil in float32, as DeepSpeed does it."""
    return max(int(np.ceil(np.float32(T / E) * np.float32(f))), min_capacity)


def ds_weights(c, rng):
    w = {"router.weight": rng((c["E"], c["D"]), c["D"], 1.3)}
    for e in range(c["E"]):
        w.update(mlp_weights(rng, f"experts.{e}.", c["D"], c["F"], c["D"]))
    return w


def mlp_outs(x, w, E, act):
    return torch.stack([mlp(x, w, f"experts.{e}.", act) for e in range(E)])


def k_deepspeed_top1(x, w, c, ex):
    T, E = x.shape[0], c["E"]
    l = x @ w["router.weight"].T
    p = torch.softmax(l, 1)
    e1 = best(p, 1)
    C = capacity(T, E, c["capacity_factor"], c["min_capacity"]) if c["drop_tokens"] else int(F.one_hot(e1[:, 0], E).sum(0).max())
    kept = torch.zeros(T, 1, dtype=torch.bool)
    for e in range(E):   # the C tokens with the largest uniform number keep their place
        mine = (e1[:, 0] == e).nonzero()[:, 0]
        order = mine[torch.sort(ex["uniform"][mine, e], descending=True, stable=True).indices[:C]]
        kept[order, 0] = True
    g = p.gather(1, e1) * kept
    ids = torch.where(kept, e1, -1)
    return dict(logits=l, ids=ids, gates=g, chosen=e1, kept=kept, capacity=C, output=mix(ids, g, mlp_outs(x, w, E, gelu_tanh)),
                aux=dict(balance_first_pick=aux_first(p, e1, E)))


def k_deepspeed_top2(x, w, c, ex):
    T, E = x.shape[0], c["E"]
    l = x @ w["router.weight"].T
    p = torch.softmax(l, 1)
    e1 = best(p, 1)[:, 0]
    e2 = best((l.detach() + ex["gumbel"]).masked_fill(F.one_hot(e1, E).bool(), -math.inf), 1)[:, 0]
    C = capacity(T, E, 2 * c["capacity_factor"], c["min_capacity"])
    used, slots = [0] * E, torch.zeros(T, 2, dtype=torch.long)
    for j, pick in enumerate((e1, e2)):      # all first choices take places before any second choice
        for t in range(T):
            slots[t, j] = used[pick[t]]
            used[pick[t]] += 1
    ch = torch.stack([e1, e2], 1)
    kept = slots < C
    g = p.gather(1, ch) * kept
    g = g / g.sum(1, keepdim=True).clamp(min=np.finfo(np.float32).eps)
    ids = torch.where(kept, ch, -1)
    return dict(logits=l, ids=ids, gates=g, chosen=ch, kept=kept, slots=slots, capacity=C,
                output=mix(ids, g, mlp_outs(x, w, E, gelu_tanh)), aux=dict(balance_first_pick=aux_first(p, ch, E)))


def moiie_weights(c, rng):
    w = {"router_vision.weight": rng((3, c["D"]), c["D"], 1.3), "router_text.weight": rng((3, c["D"]), c["D"], 1.3)}
    for e in range(4):
        w.update(glu_weights(rng, f"experts.{e}.", c["D"], c["F"]))
    return w


def k_moiie(x, w, c, ex):
    tag = ex["modality"].bool()
    vis = torch.zeros_like(tag)
    vis[:-1] = tag[:-1] & tag[1:]             # a position counts as vision only if the next one is vision too
    lv, lt = x @ w["router_vision.weight"].T, x @ w["router_text.weight"].T
    l = torch.where(vis[:, None], lv, lt)
    p = torch.softmax(l, 1)
    local = best(p, 2)
    g = p.gather(1, local)
    g = g / g.sum(1, keepdim=True)
    ids = local + torch.where(vis, 0, 1)[:, None]   # vision router: experts 0..2; text router: experts 1..3
    aux = {}
    if vis.any():
        aux["balance_vision"] = aux_mixtral(p[vis], local[vis], 3)
    if (~vis).any():
        aux["balance_text"] = aux_mixtral(p[~vis], local[~vis], 3)
    return dict(logits=l, ids=ids, gates=g, vision_mask=vis, output=mix(ids, g, glu_outs(x, w, 4)), aux=aux)


def mole_weights(c, rng):
    w = {"router.weight": rng((c["E"], c["D"]), c["D"], 1.3), "router.bias": rng((c["E"],), 9)}
    w.update(glu_weights(rng, "base.", c["D"], c["F"]))
    for e in range(c["E"]):
        for n, (o, i) in dict(w_gate=(c["F"], c["D"]), w_up=(c["F"], c["D"]), w_down=(c["D"], c["F"])).items():
            w[f"experts.{e}.{n}.lora_a"] = rng((c["rank"], i), i)
            w[f"experts.{e}.{n}.lora_b"] = rng((o, c["rank"]), c["rank"])
    return w


def k_llava_mole(x, w, c, ex):
    l = x @ w["router.weight"].T + w["router.bias"]
    p = torch.softmax(l, 1)
    ids = best(p, 1)
    hard = F.one_hot(ids[:, 0], c["E"]).to(p.dtype)
    g = p if c["dense"] else hard
    s = c["alpha"] / c["rank"]

    def proj(z, n):
        delta = torch.stack([(z @ w[f"experts.{e}.{n}.lora_a"].T) @ w[f"experts.{e}.{n}.lora_b"].T for e in range(c["E"])])
        return z @ w["base." + n].T + s * torch.einsum("te,etd->td", g, delta)
    y = proj(F.silu(proj(x, "w_gate")) * proj(x, "w_up"), "w_down")
    # the balance loss takes the hard choice for f; the released training code stops its gradient there
    aux = dict(balance=(p.mean(0) * hard.mean(0)).sum())
    return dict(logits=l, ids=ids, gates=(p.gather(1, ids) * 0 + 1) if not c["dense"] else p, output=y, aux=aux)


def k_top_p(x, w, c, ex):
    l = x @ w["router.weight"].T
    p = torch.softmax(l, 1)
    order = best(p, c["E"])
    sp = p.gather(1, order)
    over = sp.detach().cumsum(1) > c["threshold"]
    first = torch.where(over.any(1), over.to(torch.int64).argmax(1), torch.full((x.shape[0],), c["E"] - 1))
    on = torch.arange(c["E"])[None, :] <= first[:, None]
    ids = torch.where(on, order, -1)
    g = sp * on
    return dict(logits=l, ids=ids, gates=g, output=mix(ids, g, glu_outs(x, w, c["E"])),
                aux=dict(entropy=-(p * torch.log(p)).sum(1).mean(), balance_all_picks=c["E"] * (
                    (F.one_hot(order, c["E"]) * on[:, :, None]).sum(1).to(p.dtype).mean(0) * p.mean(0)).sum()))


def moepp_weights(c, rng):
    D, N = c["D"], c["n_ffn"]
    E = N + 4
    w = {"router.w_1": rng((8 * E, D), D), "router.w_2": rng((E, 8 * E), 8 * E, 2.5), "router.w_residual": rng((E, E), E, 0.7)}
    for e in range(N):
        w.update(glu_weights(rng, f"experts.{e}.", D, c["F"]))
    for e in (N, N + 1):
        w[f"experts.{e}.constant"], w[f"experts.{e}.w_mix"] = rng((D,), 1), rng((2, D), D)
    return w


def k_moepp(x, w, c, ex):
    N = c["n_ffn"]
    E = N + 4
    l = torch.tanh(x @ w["router.w_1"].T) @ w["router.w_2"].T
    if c["gate_residual"]:
        l = l + ex["previous_logits"] @ w["router.w_residual"].T
    p = torch.softmax(l, 1)
    ids = best(p, 2)
    g = p.gather(1, ids)
    g = torch.where(ids == E - 1, torch.zeros_like(g), g)      # the zero expert gets weight 0 before renormalising
    g = g / g.sum(1, keepdim=True)
    xi = 2 * x                                                 # expert inputs are multiplied by top_k
    outs = [glu(xi, w, f"experts.{e}.") for e in range(N)]
    for e in (N, N + 1):
        a = torch.softmax(xi @ w[f"experts.{e}.w_mix"].T, 1)
        outs.append(a[:, :1] * xi + a[:, 1:] * w[f"experts.{e}.constant"])
    outs += [xi, torch.zeros_like(xi)]
    eta = torch.tensor([1.0] * N + [c["tau"]] * 4, dtype=p.dtype)
    f = F.one_hot(ids, E).to(p.dtype).sum(1).mean(0)
    return dict(logits=l, ids=ids, gates=g, output=mix(ids, g, torch.stack(outs)), aux=dict(balance_tau=(eta * f * p.mean(0)).sum()))


def dsv3_weights(c, rng):
    w = {"router.weight": rng((c["E"], c["D"]), c["D"], 1.3), "router.selection_bias": rng((c["E"],), 30)}
    for e in range(c["E"]):
        w.update(glu_weights(rng, f"experts.{e}.", c["D"], c["F"]))
    w.update(glu_weights(rng, "shared.", c["D"], c["F"] * c["n_shared"]))
    return w


def k_deepseek_v3(x, w, c, ex):
    E, G = c["E"], c["n_groups"]
    l = x @ w["router.weight"].T
    s = torch.sigmoid(l)
    b = s.detach() + w["router.selection_bias"].detach()
    gs = torch.sort(b.view(-1, G, E // G), dim=2, descending=True).values[:, :, :2].sum(2)
    keep = torch.zeros_like(gs).scatter_(1, best(gs, c["topk_group"]), 1.0).bool().repeat_interleave(E // G, 1)
    ids = best(b.masked_fill(~keep, -math.inf), c["k"])
    g = s.gather(1, ids)
    if c["renormalise"]:
        g = g / (g.sum(1, keepdim=True) + 1e-20)
    g = g * c["scale"]
    count = F.one_hot(ids, E).sum((0, 1)).double()
    nb = w["router.selection_bias"].detach() + c["bias_step"] * torch.sign(count.mean() - count)
    return dict(logits=l, ids=ids, gates=g, output=mix(ids, g, glu_outs(x, w, E)) + glu(x, w, "shared."), aux={}, bias_after_step=nb)


def shared_weights(c, rng):
    w = base(c, rng)
    w.update(glu_weights(rng, "shared.", c["D"], c["F_shared"]))
    w["shared.gate"] = rng((1, c["D"]), c["D"])
    return w


def k_shared_gate(x, w, c, ex):
    r = k_softmax_topk(x, w, c, ex)
    r["output"] = r["output"] + torch.sigmoid(x @ w["shared.gate"].T) * glu(x, w, "shared.")
    return r


def connector_weights(c, rng):
    w = {"router.weight": rng((c["E"], c["D"]), c["D"], 1.3)}
    for e in range(c["E"]):
        w.update(mlp_weights(rng, f"experts.{e}.", c["D"], c["D_out"], c["D_out"]))
    return w


def k_connector(x, w, c, ex):
    l = x @ w["router.weight"].T
    p = torch.softmax(l, 1)
    ids = best(p, c["k"])
    g = p.gather(1, ids)
    g = g / g.sum(1, keepdim=True)
    return dict(logits=l, ids=ids, gates=g, output=mix(ids, g, mlp_outs(x, w, c["E"], F.gelu)),
                aux=dict(balance_first_pick=aux_first(p, ids, c["E"]), z=z_loss(l)))


KINDS = {
    "softmax-topk": (base, k_softmax_topk, {}, "softmax over all, top-k, weights raw"),
    "mixtral": (base, k_mixtral, {}, "softmax over all, top-k, renormalised (same numbers as top-k then softmax)"),
    "unimoe-v1": (base, k_unimoe_v1, {}, "top-k of the logits, then softmax over the picked"),
    "deepspeed-top1": (ds_weights, k_deepspeed_top1, dict(capacity_factor=0.8, min_capacity=1, drop_tokens=True),
                       "capacity with random token selection; the uniform numbers are given; weight not renormalised"),
    "deepspeed-top1-nodrop": (ds_weights, k_deepspeed_top1, dict(capacity_factor=0.8, min_capacity=1, drop_tokens=False),
                              "drop_tokens=false: capacity is the largest load"),
    "deepspeed-top2": (ds_weights, k_deepspeed_top2, dict(capacity_factor=2.5, min_capacity=0), "no drop; Gumbel numbers given"),
    "deepspeed-top2-overflow": (ds_weights, k_deepspeed_top2, dict(capacity_factor=0.5, min_capacity=0), "tokens dropped; Gumbel numbers given"),
    "deepspeed-top2-argmax": (ds_weights, k_deepspeed_top2, dict(capacity_factor=0.8, min_capacity=4, zero_noise=True),
                              "Gumbel = 0; min_capacity matters for the one-token case"),
    "moiie": (moiie_weights, k_moiie, dict(E=4, k=2), "two routers of 3 over 4 experts, chosen by modality"),
    "llava-mole-sparse": (mole_weights, k_llava_mole, dict(rank=3, alpha=7, dense=False), "top-1 LoRA expert, not multiplied by p"),
    "llava-mole-dense": (mole_weights, k_llava_mole, dict(rank=3, alpha=7, dense=True), "all LoRA experts weighted by p at each of the three matrices"),
    "top-p": (base, k_top_p, dict(threshold=0.4), "smallest prefix whose sum exceeds the threshold; raw weights; ids padded with -1"),
    "moe-plus-plus": (moepp_weights, k_moepp, dict(n_ffn=4, tau=0.75, gate_residual=True), "FFN, 2 constant, copy, zero; logits of the previous layer added"),
    "moe-plus-plus-first": (moepp_weights, k_moepp, dict(n_ffn=3, tau=0.75, gate_residual=False), "first MoE layer: no previous logits"),
    "deepseek-v3": (dsv3_weights, k_deepseek_v3, dict(E=12, k=3, n_groups=4, topk_group=2, scale=2.5, n_shared=2, renormalise=True, bias_step=0.001),
                    "sigmoid, selection bias, groups, shared experts; also the loss-free bias update"),
    "shared-sigmoid-gate": (shared_weights, k_shared_gate, dict(F_shared=23), "softmax top-k raw plus shared expert times sigmoid gate"),
    "moe-connector": (connector_weights, k_connector, dict(D_out=25), "CuMo and MoCHA connector: Linear GELU(erf) Linear experts, width changes"),
}
HIDDEN_OVERRIDES = {
    "deepseek-v3": dict(E=15, k=4, n_groups=5, topk_group=3, scale=1.8, n_shared=1, renormalise=True, bias_step=0.01),
    "moe-plus-plus": dict(n_ffn=5, tau=0.5), "moe-plus-plus-first": dict(n_ffn=2, tau=0.5), "top-p": dict(threshold=0.62),
    "llava-mole-sparse": dict(E=3, rank=5, alpha=11), "llava-mole-dense": dict(E=3, rank=5, alpha=11),
    "deepspeed-top2": dict(capacity_factor=3.5), "deepspeed-top2-overflow": dict(capacity_factor=0.4),
    "deepspeed-top1": dict(capacity_factor=0.6), "shared-sigmoid-gate": dict(F_shared=31), "moe-connector": dict(D_out=17, k=2),
}


def one(fn, x0, w0, c, ex, R, dtype=torch.float64):
    x = x0.to(dtype).clone().requires_grad_()
    w = {k: v.to(dtype).clone().requires_grad_() for k, v in w0.items()}
    e = {k: (v.to(dtype) if v.is_floating_point() else v) for k, v in ex.items()}
    r = fn(x, w, c, e)
    (r["output"] * R.to(dtype)).sum().backward()
    zero = lambda t: torch.zeros_like(t) if t.grad is None else t.grad.clone()
    grads = {"input": zero(x), **{k: zero(v) for k, v in w.items()}}
    aux = {}
    names = list(r["aux"])
    for n in names:
        for t in [x, *w.values()]:
            t.grad = None
        v = fn(x, w, c, e)["aux"][n]
        v.backward()
        aux[n] = (v.detach(), {"input": zero(x), **{k: zero(t) for k, t in w.items() if k.startswith("router") and t.grad is not None}})
    return r, grads, aux


def margin_of(r, c, kind):
    if kind == "top-p":
        p = torch.softmax(r["logits"], 1).sort(1, descending=True).values
        n = (r["ids"] >= 0).sum(1)                              # order matters inside the prefix and at its end only
        gaps = [float(p[t, j] - p[t, j + 1]) for t in range(p.shape[0]) for j in range(min(int(n[t]), p.shape[1] - 1))]
        return min(float((p.cumsum(1) - c["threshold"]).abs().min()), *gaps)
    if kind == "deepseek-v3":
        return float("inf")
    l = r["logits"].sort(1, descending=True).values
    k = r["ids"].shape[1]
    return float((l[:, :k] - l[:, 1:k + 1]).min()) if l.shape[1] > k else float((l[:, :-1] - l[:, 1:]).min())


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int)
    ap.add_argument("--out", default=os.path.join(HERE, "moe-layers"))
    ap.add_argument("--variant", choices=("public", "hidden"), default="public")
    ap.add_argument("--only", help="comma-separated kinds")
    a = ap.parse_args()
    size = PUBLIC if a.variant == "public" else HIDDEN
    seed0 = size["seed"] if a.seed is None else a.seed
    for number, (kind, (weights, fn, opts, note)) in enumerate(KINDS.items()):
        if a.only and kind not in a.only.split(","):
            continue
        c = dict(T=size["T"], D=size["D"], F=size["F"], E=size["E"], k=size["k"])
        c.update(opts)
        if a.variant == "hidden":
            c.update(HIDDEN_OVERRIDES.get(kind, {}))
        E = {"moe-plus-plus": c.get("n_ffn", 0) + 4, "moe-plus-plus-first": c.get("n_ffn", 0) + 4}.get(kind, c["E"])
        c["E"] = E
        if kind.startswith("moe-plus") or "top2" in kind:
            c["k"] = 2
        if "top1" in kind or "mole" in kind:
            c["k"] = 1
        for attempt in range(50):
            g = np.random.default_rng([seed0, number, attempt])
            rng = lambda shape, fan, gain=1.0: torch.from_numpy((gain * g.standard_normal(shape) / math.sqrt(fan)).astype(np.float32))
            w0 = weights(c, rng)
            tensors, cases, ok = {}, [], True
            D_out = c.get("D_out", c["D"])
            for n, T in enumerate((c["T"], 1)):
                x0 = rng((T, c["D"]), 1)
                R = rng((T, D_out), 1)
                tag = torch.zeros(T, dtype=torch.int32)
                if T > 1:
                    tag[2:9] = 1
                    tag[T - 6:T - 2] = 1
                    tag[T - 1] = 1
                ex = dict(modality=tag)
                if "top1" in kind:
                    ex["uniform"] = torch.from_numpy(g.random((T, E)).astype(np.float32))
                if kind.startswith("deepspeed-top2"):
                    ex["gumbel"] = torch.from_numpy(np.zeros((T, E), np.float32) if c.get("zero_noise") else g.gumbel(size=(T, E)).astype(np.float32))
                if kind.startswith("deepspeed"):
                    ex.setdefault("uniform", torch.zeros(T, E))
                    ex.setdefault("gumbel", torch.zeros(T, E))
                if c.get("gate_residual"):
                    ex["previous_logits"] = rng((T, E), 1)
                r, grads, aux = one(fn, x0, w0, c, ex, R)
                r32, _, _ = one(fn, x0, w0, c, ex, R, torch.float32)
                if not torch.equal(r["ids"], r32["ids"]) or margin_of(r, c, kind) < 1e-3:
                    ok = False
                    break
                picks = r.get("chosen", r["ids"])
                load = np.bincount(picks[picks >= 0].reshape(-1).numpy(), minlength=E)
                if T > 1 and (load == 0).any():
                    ok = False
                    break
                if T > 1 and "overflow" in kind and not ((r["kept"].sum(1) == 0).any() and (r["kept"].sum(1) == 1).any()):
                    ok = False
                    break
                if T > 1 and kind == "deepspeed-top1" and bool(r["kept"].all()):
                    ok = False
                    break
                p = f"case{n}."
                t = {"input": x0, "grad_output": R, "modality": tag, "router_logits": r["logits"], "expert_ids": r["ids"].int(),
                     "gate_weights": r["gates"], "output": r["output"]}
                for k in ("chosen", "kept", "slots", "vision_mask", "bias_after_step"):
                    if k in r:
                        t[k] = r[k] if r[k].is_floating_point() else r[k].int()
                for k in ("gumbel", "uniform", "previous_logits"):
                    if k in ex and (k != "gumbel" or "top2" in kind) and (k != "uniform" or "top1" in kind):
                        t[k] = ex[k]
                if n == 0:
                    t.update({"grad." + k: v for k, v in grads.items()})
                    for k, (v, gr) in aux.items():
                        t[f"aux.{k}"] = v.reshape(1)
                        t.update({f"aux.{k}.grad.{q}": z for q, z in gr.items()})
                tensors.update({p + k: (v.detach().float() if v.is_floating_point() else v).contiguous() for k, v in t.items()})
                cases.append(dict(name=f"case{n}", tokens=T, expert_load=load.tolist(), capacity=r.get("capacity"),
                                  gate_weight_spread=[float(r["gates"].min()), float(r["gates"].max())]))
            if ok:
                break
        else:
            raise SystemExit("no usable seed for " + kind)
        d = os.path.join(a.out, kind)
        shutil.rmtree(d, ignore_errors=True)
        os.makedirs(d)
        c.pop("zero_noise", None)
        save_file({k: v.contiguous() for k, v in w0.items()}, os.path.join(d, "model.safetensors"))
        save_file(tensors, os.path.join(d, "io.safetensors"))
        with open(os.path.join(d, "config.json"), "w") as f:
            json.dump(dict(kind=kind, n_tokens=c["T"], d_model=c["D"], d_ff=c["F"], n_experts=E, top_k=c["k"],
                           **{k: v for k, v in c.items() if k not in "TDFEk"}), f, indent=1)
        with open(os.path.join(d, "golden.json"), "w") as f:
            json.dump(dict(kind=kind, note=note, seed=[seed0, number, attempt], computed_in="float64 reference of make.py, stored float32",
                           tolerance="relative L2 1e-5 for float32; ids, kept, slots exact", loss="sum(output * grad_output)", cases=cases,
                           tensors={k: [str(v.dtype).replace("torch.", ""), list(v.shape)] for k, v in tensors.items()}), f)
        print(f"{kind:26s} try {attempt} load {cases[0]['expert_load']}")


if __name__ == "__main__":
    main()
