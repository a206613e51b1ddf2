// Samples from a base model: many samples at once, from several threads, in C++11.
//
//     c++ -std=c++11 sample.cpp $(pkg-config --cflags --libs tinkex) -pthread -o sample && ./sample
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <tinkex.h>

namespace {

// Frees each handle with the function of its type.
struct Free {
    void operator()(tinkex_service *service) const { tinkex_service_free(service); }
    void operator()(tinkex_sampler *sampler) const { tinkex_sampler_free(sampler); }
    void operator()(tinkex_tokenizer *tokenizer) const { tinkex_tokenizer_free(tokenizer); }
    void operator()(tinkex_pending *pending) const { tinkex_pending_free(pending); }
    void operator()(tinkex_result *result) const { tinkex_result_free(result); }
    void operator()(tinkex_error *error) const { tinkex_error_free(error); }
    void operator()(char *text) const { tinkex_string_free(text); }
};

template <typename T> using Handle = std::unique_ptr<T, Free>;

// Makes a handle with a function whose last arguments are the place for it and the place for an error.
template <typename T, typename Function, typename... Arguments> Handle<T> make(Function function, Arguments... arguments) {
    T *handle = nullptr;
    tinkex_error *error = nullptr;
    function(arguments..., &handle, &error);
    if (error != nullptr) {
        const Handle<tinkex_error> owned(error);
        throw std::runtime_error(tinkex_error_message(error));
    }
    return Handle<T>(handle);
}

std::vector<std::uint32_t> encode(const tinkex_tokenizer *tokenizer, const std::string &text) {
    std::size_t count = 0;
    tinkex_tokenizer_encode(tokenizer, text.c_str(), nullptr, 0, &count, nullptr);
    std::vector<std::uint32_t> tokens(count);
    tinkex_error *error = nullptr;
    tinkex_tokenizer_encode(tokenizer, text.c_str(), tokens.data(), tokens.size(), &count, &error);
    if (error != nullptr) {
        const Handle<tinkex_error> owned(error);
        throw std::runtime_error(tinkex_error_message(error));
    }
    return tokens;
}

std::string decode(const tinkex_tokenizer *tokenizer, const tinkex_result *result, std::size_t index) {
    const std::uint32_t *tokens = nullptr;
    std::size_t count = 0;
    tinkex_result_tokens(result, index, &tokens, &count, nullptr);
    return make<char>(tinkex_tokenizer_decode, tokenizer, tokens, count).get();
}

void run() {
    auto service = make<tinkex_service>(tinkex_service_connect, "{\"display_name\": \"sample.cpp\"}");
    auto sampler = make<tinkex_sampler>(tinkex_sampler_create, service.get(), "tinkex/bytes-tiny");
    auto tokenizer = make<tinkex_tokenizer>(tinkex_sampler_tokenizer, sampler.get());
    const auto prompt = encode(tokenizer.get(), "once upon a time");

    // One request after the other is submitted; their results are collected later.
    std::vector<Handle<tinkex_pending>> pendings;
    for (int seed = 0; seed < 4; seed++) {
        const std::string options = "{\"num_samples\": 2, \"sampling_params\": {\"max_tokens\": 8, \"seed\": " + std::to_string(seed) + "}}";
        pendings.push_back(make<tinkex_pending>(tinkex_sampler_submit_sample, sampler.get(), prompt.data(), prompt.size(),
                                                options.c_str()));
    }
    for (const auto &pending : pendings) {
        auto result = make<tinkex_result>(tinkex_pending_wait, pending.get(), std::int64_t(-1));
        for (std::size_t i = 0; i < tinkex_result_count(result.get()); i++) {
            std::printf("%s (%s)\n", decode(tokenizer.get(), result.get(), i).c_str(), tinkex_result_stop_reason(result.get(), i));
        }
    }

    // A handle may be used by several threads.
    std::vector<std::thread> threads;
    std::vector<std::string> texts(3);
    for (std::size_t i = 0; i < texts.size(); i++) {
        threads.emplace_back([&, i] {
            try {
                auto result = make<tinkex_result>(tinkex_sampler_sample, sampler.get(), prompt.data(), prompt.size(),
                                                  "{\"sampling_params\": {\"max_tokens\": 8, \"temperature\": 0}}");
                texts[i] = decode(tokenizer.get(), result.get(), 0);
            } catch (const std::exception &error) {
                texts[i] = error.what();
            }
        });
    }
    for (auto &thread : threads) {
        thread.join();
    }
    if (texts[0] != texts[1] || texts[0] != texts[2]) {
        throw std::runtime_error("the same sample differs between threads");
    }
}

} // namespace

int main() {
    try {
        run();
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
