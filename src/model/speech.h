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

// What the tensors say of the model.
struct SpeechShape {
  int64_t mels = 0;         // channels of the encoder's input
  int64_t frames = 0;       // most rows of it: 3000 of 10 ms
  int64_t source_rows = 0;  // that the encoder leaves: 1500
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

// `heads`: where the file says how many there are; 0: heads of 64.
Result<SpeechProgram> build_speech_program(const TensorSource& source, int64_t heads = 0);

// The same of a program that is there already; an error where it is no speech model's.
Result<SpeechShape> speech_shape(const Program& program);

// [weights of the program] those that keep their type whatever matrices become: positions.
std::vector<bool> kept_weights(const Program& program);

// Packs the weights on the pool's threads, and gives back each tensor's pages once it is packed. `type`: what every
// matrix becomes whose rows allow it, but the positions, which stay as they are; none: what the file has, 8-bit
// integers with a scale a row as Q8_0.
Result<WeightStore> load_weights(const TensorSource& source, const ModelProgram& model, std::optional<WeightType> type,
                                 ThreadPool& pool);

// Bytes of the block that load_weights maps.
Result<size_t> plan_weights(const TensorSource& source, const ModelProgram& model, std::optional<WeightType> type);

}  // namespace kvass
