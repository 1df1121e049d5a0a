// kvass.attention and its kin: arguments in, one call of include/kvass/ops.h without the GIL, the caller's framework
// out. All calls of the process share one OpContext (shared_context.h) and take turns.
#include "kvass/ops.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <pthread.h>

#include <memory>
#include <span>
#include <vector>

#include "gil.h"
#include "module.h"
#include "shared_context.h"
#include "tensors.h"

namespace kvass::python {
namespace {

// With the GIL. After a fork the child makes one of its own.
SharedContext& shared_context() {
  static SharedContext* shared = nullptr;
  static const int registered = pthread_atfork(nullptr, nullptr, [] { shared = nullptr; });
  (void)registered;
  if (shared == nullptr) shared = new SharedContext;
  return *shared;
}

void set_threads(int threads) {
  OpContext::Options options;
  options.threads = threads;
  OpContext made = value_of(OpContext::create(options));
  SharedContext& shared = shared_context();
  const GilReleased released;  // the threads of the old one may have to end
  shared.replace(std::move(made));
}

// call(context) without the GIL, or for tensors of a device on their framework's stream: such a call only launches, and
// with the GIL nobody else sets another stream in between. The context stays until the call is done, whatever
// set_threads does meanwhile.
template <class Call>
Status with_context(const TensorArgument& first, Call&& call) {
  const std::shared_ptr<OpContext> with = value_of(shared_context().get());
  if (first.view().device != Device::cpu) {
    if (Status status = with->set_stream(first.stream()); !status.ok()) return status;
    return call(*with);
  }
  const GilReleased released;
  return call(*with);
}

struct Options {
  bool causal;
  std::optional<float> scale;
  float softcap;
  int64_t window, sinks;
  nb::handle q_sink, key_padding_mask, first_position, sink_logits;
  std::optional<int64_t> window_right;
  int64_t attention_chunk;
  nb::handle cu_seqlens_q, cu_seqlens_k;
};

// The options with what they borrow.
class AttentionArguments {
 public:
  AttentionArguments(const Options& from, Device device) {
    options_.causal = from.causal;
    options_.scale = from.scale;
    options_.softcap = from.softcap;
    options_.window = from.window;
    options_.sinks = from.sinks;
    options_.window_right = from.window_right;
    options_.attention_chunk = from.attention_chunk;
    if (!from.q_sink.is_none()) {
      q_sink_.emplace(from.q_sink, "q_sink");
      options_.q_sink = q_sink_->view();
    }
    if (!from.key_padding_mask.is_none()) {
      mask_ = MaskArgument(from.key_padding_mask, "key_padding_mask", device);
      options_.key_padding_mask = mask_.view();
    }
    if (!from.first_position.is_none()) {
      first_position_ = integers(from.first_position, "first_position");
      options_.first_position = first_position_;
    }
    if (!from.sink_logits.is_none()) {
      sink_logits_ = numbers(from.sink_logits, "sink_logits");
      options_.sink_logits = sink_logits_;
    }
    options_.cu_seqlens_q = offsets(from.cu_seqlens_q, "cu_seqlens_q", cu_seqlens_q_);
    options_.cu_seqlens_k = offsets(from.cu_seqlens_k, "cu_seqlens_k", cu_seqlens_k_);
  }
  AttentionArguments(const AttentionArguments&) = delete;
  const AttentionOptions& options() const { return options_; }

 private:
  static std::span<const int64_t> offsets(nb::handle from, const char* name, std::vector<int64_t>& to) {
    if (from.is_none()) return {};
    to = integers(from, name);
    if (to.empty()) check(bad_input(name, "at least two offsets", "none"));
    return to;
  }

  std::optional<TensorArgument> q_sink_;
  MaskArgument mask_;
  std::vector<int64_t> first_position_, cu_seqlens_q_, cu_seqlens_k_;
  std::vector<float> sink_logits_;
  AttentionOptions options_;
};

std::vector<int64_t> shape_of(const Tensor& view) { return {view.shape.begin(), view.shape.begin() + view.rank}; }

OutputTensor output_for(nb::handle out, const TensorArgument& like, bool fp32) {
  if (!out.is_none()) return OutputTensor(out, "out");
  return OutputTensor(like, fp32 ? DType::f32 : like.view().dtype, shape_of(like.view()));
}

// (out, lse)
nb::any with_lse(const TensorArgument& q, const TensorArgument& k, const TensorArgument& v,
                 const AttentionOptions& options, OutputTensor& out) {
  std::vector<int64_t> rows = shape_of(q.view());
  if (rows.size() == 4) rows.pop_back();  // another rank is refused below
  OutputTensor lse(q, DType::f32, std::move(rows));
  check(with_context(q, [&](OpContext& with) {
    return attention_with_lse(with, q.view(), k.view(), v.view(), options, out.view(), lse.view());
  }));
  return nb::borrow<nb::any>(nb::make_tuple(out.take(), lse.take()));
}

nb::any attention_call(nb::handle q, nb::handle k, nb::handle v, bool causal, std::optional<float> scale, float softcap,
                       int64_t window, int64_t sinks, nb::handle q_sink, nb::handle mask, nb::handle first_position,
                       nb::handle sink_logits, std::optional<int64_t> window_right, int64_t attention_chunk,
                       nb::handle cu_seqlens_q, nb::handle cu_seqlens_k, nb::handle out, bool fp32, bool return_lse) {
  const TensorArgument q_in(q, "q"), k_in(k, "k"), v_in(v, "v");
  const AttentionArguments arguments({causal, scale, softcap, window, sinks, q_sink, mask, first_position, sink_logits,
                                      window_right, attention_chunk, cu_seqlens_q, cu_seqlens_k},
                                     q_in.view().device);
  OutputTensor result = output_for(out, q_in, fp32);
  if (return_lse) return with_lse(q_in, k_in, v_in, arguments.options(), result);
  check(with_context(q_in, [&](OpContext& with) {
    return fp32 ? attention_fp32(with, q_in.view(), k_in.view(), v_in.view(), arguments.options(), result.view())
                : attention(with, q_in.view(), k_in.view(), v_in.view(), arguments.options(), result.view());
  }));
  return nb::borrow<nb::any>(result.take());
}

nb::any kv_cache_attention_call(nb::handle q, nb::handle k_cache, nb::handle v_cache, nb::handle k_new,
                                nb::handle v_new, bool causal, std::optional<float> scale, float softcap,
                                int64_t window, int64_t sinks, nb::handle q_sink, nb::handle mask,
                                nb::handle first_position, nb::handle sink_logits, std::optional<int64_t> window_right,
                                int64_t attention_chunk, nb::handle out, bool fp32) {
  const TensorArgument q_in(q, "q"), k_old(k_cache, "k_cache"), v_old(v_cache, "v_cache"), k_in(k_new, "k_new"),
      v_in(v_new, "v_new");
  const AttentionArguments arguments({causal, scale, softcap, window, sinks, q_sink, mask, first_position, sink_logits,
                                      window_right, attention_chunk, nb::none(), nb::none()},
                                     q_in.view().device);
  OutputTensor result = output_for(out, q_in, fp32);
  const CachedKeys keys{k_old.view(), v_old.view(), k_in.view(), v_in.view()};
  check(with_context(q_in, [&](OpContext& with) {
    return fp32 ? kv_cache_attention_fp32(with, q_in.view(), keys, arguments.options(), result.view())
                : kv_cache_attention(with, q_in.view(), keys, arguments.options(), result.view());
  }));
  return nb::borrow<nb::any>(result.take());
}

nb::typed<nb::tuple, nb::any, nb::any, nb::any> attention_backward_call(
    nb::handle q, nb::handle k, nb::handle v, nb::handle dout, bool causal, std::optional<float> scale, float softcap,
    int64_t window, int64_t sinks, nb::handle mask, nb::handle first_position, nb::handle sink_logits,
    std::optional<int64_t> window_right, int64_t attention_chunk, nb::handle cu_seqlens_q, nb::handle cu_seqlens_k,
    nb::handle dlse) {
  const TensorArgument q_in(q, "q"), k_in(k, "k"), v_in(v, "v"), dout_in(dout, "dout");
  const AttentionArguments arguments({causal, scale, softcap, window, sinks, nb::none(), mask, first_position,
                                      sink_logits, window_right, attention_chunk, cu_seqlens_q, cu_seqlens_k},
                                     q_in.view().device);
  std::optional<TensorArgument> of_lse;
  if (!dlse.is_none()) of_lse.emplace(dlse, "dlse");
  OutputTensor dq(q_in, DType::f32, shape_of(q_in.view())), dk(k_in, DType::f32, shape_of(k_in.view())),
      dv(v_in, DType::f32, shape_of(v_in.view()));
  check(with_context(q_in, [&](OpContext& with) {
    return attention_backward(with, q_in.view(), k_in.view(), v_in.view(), dout_in.view(), arguments.options(),
                              {dq.view(), dk.view(), dv.view()}, of_lse ? ConstTensor(of_lse->view()) : ConstTensor());
  }));
  return nb::borrow<nb::typed<nb::tuple, nb::any, nb::any, nb::any>>(nb::make_tuple(dq.take(), dk.take(), dv.take()));
}

nb::typed<nb::tuple, nb::any, nb::any> merge_attention_call(nb::sequence outs, nb::sequence lses, bool fp32) {
  std::vector<nb::object> objects;  // a sequence may make its items anew
  std::vector<TensorArgument> held;
  const auto views = [&](const nb::sequence& from, const char* name) {
    std::vector<ConstTensor> to;
    for (nb::handle one : from) {
      objects.push_back(nb::borrow(one));
      to.push_back(held.emplace_back(objects.back(), name).view());
    }
    return to;
  };
  const std::vector<ConstTensor> out_views = views(outs, "outs"), lse_views = views(lses, "lses");
  if (out_views.empty()) check(bad_input("outs", "at least one tensor", "none"));
  const TensorArgument& first = held.front();
  std::vector<int64_t> rows = shape_of(first.view());
  if (rows.size() == 4) rows.pop_back();  // another rank is refused below
  OutputTensor out(first, fp32 ? DType::f32 : first.view().dtype, shape_of(first.view()));
  OutputTensor lse(first, DType::f32, std::move(rows));
  check(with_context(
      first, [&](OpContext& with) { return merge_attention(with, out_views, lse_views, out.view(), lse.view()); }));
  return nb::borrow<nb::typed<nb::tuple, nb::any, nb::any>>(nb::make_tuple(out.take(), lse.take()));
}

nb::any update_cross_attn_cache_call(nb::handle value, nb::object cache) {
  const TensorArgument value_in(value, "value"), cache_out(cache, "cache", Access::write);
  check(with_context(cache_out, [&](OpContext& with) {
    return update_cross_attn_cache(with, value_in.view(), cache_out.view()).status();
  }));
  return nb::borrow<nb::any>(cache);
}

nb::dict row_of(const Backend& backend) {
  nb::dict row;
  row["op"] = nb::str(backend.op.data(), backend.op.size());
  row["device"] = nb::str(device_name(backend.device).data());
  row["backend"] = nb::str(backend.name.data(), backend.name.size());
  row["priority"] = backend.priority;
  row["available"] = backend.available;
  row["reason"] = backend.reason;
  return row;
}

nb::list backends() {
  nb::list rows;
  for (const Backend& backend : list_backends()) rows.append(row_of(backend));
  return rows;
}

nb::dict backend_for(const std::string& op, const std::string& device, const std::string& name) {
  for (const Device known : {Device::cpu, Device::cuda, Device::rocm}) {
    if (device == device_name(known)) return row_of(value_of(get_backend(op, known, name)));
  }
  check(bad_input("device", "cpu, cuda or rocm", device));
  return {};
}

}  // namespace

void add_ops(nb::module_& module) {
  module.def("attention", &attention_call, nb::arg("q"), nb::arg("k"), nb::arg("v"), nb::kw_only(),
             nb::arg("causal") = true, nb::arg("scale") = nb::none(), nb::arg("softcap") = 0.0f, nb::arg("window") = 0,
             nb::arg("sinks") = 0, nb::arg("q_sink") = nb::none(), nb::arg("key_padding_mask") = nb::none(),
             nb::arg("first_position") = nb::none(), nb::arg("sink_logits") = nb::none(),
             nb::arg("window_right") = nb::none(), nb::arg("attention_chunk") = 0, nb::arg("cu_seqlens_q") = nb::none(),
             nb::arg("cu_seqlens_k") = nb::none(), nb::arg("out") = nb::none(), nb::arg("fp32") = false,
             nb::arg("return_lse") = false,
             R"(softmax(cap(q · k * scale)) · v over the keys that each row sees.

q [B, Hq, Sq, D]; k, v [B, Hkv, Skv, D]; all of one dtype: float32, float16 or bfloat16, of any strides, on the CPU or, in a build with
CUDA or ROCm, on its first device. Hq is a multiple of Hkv, D is 1 to 512. Returns [B, Hq, Sq, D] of q's framework and dtype, or float32 with fp32=True; `out` is
written instead where it is given. The tensors are read where they are.

Row i stands at p = Skv - Sq + i and sees key j when
    (not causal or j <= p) and (not window or p - j < window or j - first_position[b] < sinks)
    and first_position[b] <= j and (no mask or key_padding_mask[b, j])
    and (window_right is None or j - p <= window_right)
    and (not attention_chunk or j and p are in the same chunk, counted from first_position[b])
A row that sees no key is exactly 0.

scale            float, default 1/sqrt(D)
softcap          scores become softcap * tanh(score / softcap); 0: they do not
window           latest keys that a row sees, its own included; 0: all
sinks            first keys of the sequence that stay visible after they leave the window
q_sink           [B, Hq, Sq, D]: the query as sink keys see it
key_padding_mask [B, Skv] of bool or integers, 0 is padding
first_position   [B]: where the sequence begins; what is before it is left padding
sink_logits      [Hq]: each adds its exp to its head's denominator; finite
window_right     keys after its own position that a row sees; None: no limit
attention_chunk  positions of a chunk: a row sees keys of its own chunk only; 0: no chunks. Not with sinks
cu_seqlens_q     [N + 1] from 0 to B * Sq: the rows are those of N packed documents, one after another, and each has the
                 bits that it would have in a call of its own; a document lies in one batch row
cu_seqlens_k     [N + 1] from 0 to B * Skv: the same for the keys; None: cu_seqlens_q
return_lse       also returns the logarithm of each row's denominator: (out, lse), lse [B, Hq, Sq] in float32, for
                 merge_attention; minus infinity for a row that sees no key

The bits of a row do not depend on the batch, on Sq, on threads or on the instruction set: a prompt in one piece gives
what token by token gives.

Raises ValueError (shapes, devices, options; the message says what was expected and what was got) and TypeError (not a
tensor, or of another dtype). Tensors that require gradients are refused: kvass.torch.attention has a backward.
Source: arXiv 1706.03762; grouped queries: 2305.13245; sinks: 2309.17453.)");
  module.def("kv_cache_attention", &kv_cache_attention_call, nb::arg("q"), nb::arg("k_cache"), nb::arg("v_cache"),
             nb::arg("k_new"), nb::arg("v_new"), nb::kw_only(), nb::arg("causal") = true, nb::arg("scale") = nb::none(),
             nb::arg("softcap") = 0.0f, nb::arg("window") = 0, nb::arg("sinks") = 0, nb::arg("q_sink") = nb::none(),
             nb::arg("key_padding_mask") = nb::none(), nb::arg("first_position") = nb::none(),
             nb::arg("sink_logits") = nb::none(), nb::arg("window_right") = nb::none(), nb::arg("attention_chunk") = 0,
             nb::arg("out") = nb::none(), nb::arg("fp32") = false,
             R"(attention() over a cache and the step's own keys, of which nothing is concatenated or changed.

q [B, Hq, Sq, D]; k_cache, v_cache [B, Hkv, C, D], C may be 0; k_new, v_new [B, Hkv, Sq, D]. Skv = C + Sq. The bits are those
of attention(q, cat([k_cache, k_new], 2), cat([v_cache, v_new], 2)). Options, result and errors as attention().)");
  module.def("attention_backward", &attention_backward_call, nb::arg("q"), nb::arg("k"), nb::arg("v"), nb::arg("dout"),
             nb::kw_only(), nb::arg("causal") = true, nb::arg("scale") = nb::none(), nb::arg("softcap") = 0.0f,
             nb::arg("window") = 0, nb::arg("sinks") = 0, nb::arg("key_padding_mask") = nb::none(),
             nb::arg("first_position") = nb::none(), nb::arg("sink_logits") = nb::none(),
             nb::arg("window_right") = nb::none(), nb::arg("attention_chunk") = 0, nb::arg("cu_seqlens_q") = nb::none(),
             nb::arg("cu_seqlens_k") = nb::none(), nb::arg("dlse") = nb::none(),
             R"(Gradients of sum(dout * attention(q, k, v)) in float32.

dout [B, Hq, Sq, D] in any dtype. Returns (dq [B, Hq, Sq, D], dk [B, Hkv, Skv, D], dv [B, Hkv, Skv, D]), float32, of the
frameworks of q, k and v. With dlse [B, Hq, Sq] they are those of sum(dout * out) + sum(dlse * lse). What no row sees has
gradient 0. Options and errors as attention(); there is no q_sink.)");
  module.def("merge_attention", &merge_attention_call, nb::arg("outs"), nb::arg("lses"), nb::kw_only(),
             nb::arg("fp32") = false,
             nb::sig("def merge_attention(outs: collections.abc.Sequence[typing.Any], "
                     "lses: collections.abc.Sequence[typing.Any], *, fp32: bool = False) -> "
                     "tuple[typing.Any, typing.Any]"),
             R"(The attention over all keys from attentions over parts of them: (out, lse).

outs: tensors [B, H, S, D] of one dtype; lses: as many [B, H, S] in float32, as attention(return_lse=True) gives them. Parts are
merged in their order, as the spans of one call are; a part with an lse of minus infinity adds nothing. out has the dtype of outs,
or float32 with fp32=True. Sink logits must be in one part only. Raises ValueError and TypeError as attention().)");
  module.def(
      "alias", [](nb::object a, nb::object b) { return nb::make_tuple(a, b); }, nb::arg("a"), nb::arg("b"),
      nb::sig("def alias(a: typing.Any, b: typing.Any) -> tuple[typing.Any, typing.Any]"),
      "The same two tensors. (kvass.torch.alias is the operator for torch.cond.)");
  module.def(
      "update_cross_attn_cache", &update_cross_attn_cache_call, nb::arg("value"), nb::arg("cache"),
      R"(Copies value [B, H, S, D] into cache[:, :, :S] of cache [B, H, S_max, D] of the same dtype and returns the cache.

The rest of the cache is not touched. Raises ValueError where S > S_max or other sizes, dtypes or devices differ, TypeError
for what is no tensor that may be written. Source: the cross-attention cache of ExecuTorch's Whisper exports.)");
  module.def("set_threads", &set_threads, nb::arg("threads"),
             "Threads of the operators from here on; 0: one for each CPU that the process may use, the default.");
  module.def(
      "backends", &backends, nb::sig("def backends() -> list[dict[str, typing.Any]]"),
      "Every operator, device and backend of this build: dicts of op, device, backend, priority, available, reason.");
  module.def("get_backend", &backend_for, nb::arg("op"), nb::arg("device") = "cpu", nb::arg("name") = "",
             nb::sig("def get_backend(op: str, device: str = 'cpu', name: str = '') -> dict[str, typing.Any]"),
             "The backend that `op` uses on `device` (cpu, cuda, rocm), or kvass.Unsupported with the reason why there "
             "is none.");
}

}  // namespace kvass::python
