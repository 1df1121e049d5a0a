// Speech models: encoder-decoders whose weights come from any TensorSource under the names of Hugging Face
// ("model.encoder.layers.0.self_attn.q_proj.weight"). The program and its weights; no audio, no text, nothing is run.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "file/tensor_source.h"
#include "kvass/status.h"
#include "model/model.h"

namespace kvass {

// The sizes of the model, taken from its tensors.
struct SpeechShape {
  int64_t mels = 0;         // channels of the encoder's input
  int64_t frames = 0;       // largest number of rows of the encoder's input: 3000 of 10 ms
  int64_t source_rows = 0;  // rows of the encoder output: 1500
  int64_t width = 0;
  int64_t heads = 0;
  int64_t encoder_layers = 0;
  int64_t decoder_layers = 0;
  int64_t vocabulary = 0;
  int64_t context = 0;  // positions of the decoder: 448
};

struct SpeechProgram {
  ModelProgram model;
  SpeechShape shape;
};

// `heads`: the number that the file states; 0: it states none, and a head has 64 elements.
Result<SpeechProgram> build_speech_program(const TensorSource& source, int64_t heads = 0);

// The sizes of an existing program; an error if it is not a speech model.
Result<SpeechShape> speech_shape(const Program& program);

// [weights of the program] true: the weight keeps its type when matrices are converted (position embeddings).
std::vector<bool> kept_weights(const Program& program);

// Packs the weights on the pool's threads. Releases each tensor's pages once it is packed. `type`: matrices are
// converted to it where their row length allows, except position embeddings; none: the file's types are kept, and
// 8-bit integers with one scale per row become Q8_0.
Result<WeightStore> load_weights(const TensorSource& source, const ModelProgram& model, std::optional<WeightType> type,
                                 ThreadPool& pool, const OnProgress& progress = {});

// Bytes of the block that load_weights maps.
Result<size_t> plan_weights(const TensorSource& source, const ModelProgram& model, std::optional<WeightType> type);

}  // namespace kvass
