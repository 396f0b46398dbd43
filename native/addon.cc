// The few system calls that Node does not have, for the mount.
//
// preload(path)            makes a shared library known to the loader before a module needs it.
// setCloexec(fd)           keeps a descriptor out of child processes.
// umount(path, flags)      umount2(2) on a thread of the pool; resolves to 0 or -errno.
// punchHole(fd, off, len)  gives blocks of a host file back; 0 or -errno.
// alignOffset(view)        bytes from the view's start to the first page-aligned address.
// discard(view, offsets, count)  gives the memory of pages back to the host.
// exec(argv)               becomes another program; returns -errno when it cannot.
// watchThreads(begin)      around the load of fuse-native: learns of the end of libfuse's threads.
// endedThreads(size)       addresses of what fuse-native kept for threads that have ended.
// addressOf(view)          where a view's bytes lie.
//
// Nothing here knows what the bytes mean. The TypeScript core runs without this file: it is
// loaded by mount/native.ts alone, which has an answer for its absence.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <napi.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace {

constexpr uintptr_t kPageSize = 4096;

Napi::Value Fail(Napi::Env env, const std::string& message) {
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

// RTLD_GLOBAL, because fuse-native's own DT_NEEDED entry is then satisfied by the soname of
// what is already loaded, wherever the file lies. The handle is kept for ever on purpose.
Napi::Value Preload(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsString()) return Fail(env, "preload: a path is needed");
  std::string path = info[0].As<Napi::String>();
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    Napi::Error::New(env, dlerror()).ThrowAsJavaScriptException();
  }
  return env.Undefined();
}

Napi::Value SetCloexec(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsNumber()) return Fail(env, "setCloexec: a number is needed");
  int fd = info[0].As<Napi::Number>().Int32Value();
  int flags = fcntl(fd, F_GETFD);
  if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0) {
    return Napi::Number::New(env, -errno);
  }
  return Napi::Number::New(env, 0);
}

// umount2 of a mount that this very process serves may wait for answers that only the
// JavaScript thread can give, so it never runs on that thread.
class UmountWorker : public Napi::AsyncWorker {
 public:
  UmountWorker(Napi::Env env, std::string path, int flags)
      : Napi::AsyncWorker(env), deferred_(env), path_(std::move(path)), flags_(flags) {}

  void Execute() override { result_ = umount2(path_.c_str(), flags_) == 0 ? 0 : -errno; }
  void OnOK() override { deferred_.Resolve(Napi::Number::New(Env(), result_)); }
  Napi::Promise Promise() { return deferred_.Promise(); }

 private:
  Napi::Promise::Deferred deferred_;
  std::string path_;
  int flags_;
  int result_ = 0;
};

Napi::Value Umount(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsString() || !info[1].IsNumber()) {
    return Fail(env, "umount: a path and flags are needed");
  }
  auto* worker = new UmountWorker(env, info[0].As<Napi::String>(),
                                  info[1].As<Napi::Number>().Int32Value());
  Napi::Promise promise = worker->Promise();
  worker->Queue();
  return promise;
}

// The new program gets this process whole: pid, terminal, streams, parent. What Node changed for
// itself is put back: it closes every descriptor at exec, and it ignores SIGPIPE and SIGXFSZ.
Napi::Value Exec(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsArray()) return Fail(env, "exec: an array is needed");
  Napi::Array words = info[0].As<Napi::Array>();
  std::vector<std::string> texts;
  for (uint32_t i = 0; i < words.Length(); i++) {
    texts.push_back(words.Get(i).ToString().Utf8Value());
  }
  if (texts.empty()) return Fail(env, "exec: a program is needed");
  std::vector<char*> argv;
  for (std::string& text : texts) argv.push_back(text.data());
  argv.push_back(nullptr);
  for (int fd = 0; fd <= 2; fd++) fcntl(fd, F_SETFD, 0);
  struct sigaction previous;
  struct sigaction fresh = {};
  fresh.sa_handler = SIG_DFL;
  sigaction(SIGPIPE, &fresh, &previous);
  signal(SIGXFSZ, SIG_DFL);
  sigset_t none;
  sigset_t mask;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, &mask);
  execv(argv[0], argv.data());
  int error = errno;
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  sigaction(SIGPIPE, &previous, nullptr);
  return Napi::Number::New(env, -error);
}

Napi::Value PunchHole(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 3 || !info[0].IsNumber() || !info[1].IsNumber() || !info[2].IsNumber()) {
    return Fail(env, "punchHole: three numbers are needed");
  }
  int fd = info[0].As<Napi::Number>().Int32Value();
  off_t offset = info[1].As<Napi::Number>().Int64Value();
  off_t length = info[2].As<Napi::Number>().Int64Value();
  int err = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  return Napi::Number::New(env, err == 0 ? 0 : -errno);
}

// Views are accepted instead of buffers because N-API knows no SharedArrayBuffer, while the
// data pointer of a view on one is as good as any.
bool ViewOf(const Napi::Value& value, uint8_t** data, size_t* length) {
  if (!value.IsTypedArray()) return false;
  napi_typedarray_type type;
  void* pointer = nullptr;
  if (napi_get_typedarray_info(value.Env(), value, &type, length, &pointer, nullptr, nullptr) !=
          napi_ok ||
      type != napi_uint8_array || pointer == nullptr) {
    return false;
  }
  *data = static_cast<uint8_t*>(pointer);
  return true;
}

uintptr_t AlignOffsetOf(const uint8_t* data) {
  uintptr_t address = reinterpret_cast<uintptr_t>(data);
  return (kPageSize - address % kPageSize) % kPageSize;
}

Napi::Value AlignOffset(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint8_t* data = nullptr;
  size_t length = 0;
  if (info.Length() < 1 || !ViewOf(info[0], &data, &length)) {
    return Fail(env, "alignOffset: a Uint8Array is needed");
  }
  return Napi::Number::New(env, static_cast<double>(AlignOffsetOf(data)));
}

// Page n lies alignOffset + n * 4096 bytes after the view's start. The offsets are sorted and
// neighbours joined, because one madvise of 256 MiB costs a hundredth of one for each page.
Napi::Value Discard(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint8_t* data = nullptr;
  size_t length = 0;
  if (info.Length() < 3 || !ViewOf(info[0], &data, &length) || !info[1].IsTypedArray() ||
      !info[2].IsNumber()) {
    return Fail(env, "discard: a Uint8Array, a Uint32Array and a count are needed");
  }
  napi_typedarray_type type;
  size_t available = 0;
  void* pointer = nullptr;
  if (napi_get_typedarray_info(env, info[1], &type, &available, &pointer, nullptr, nullptr) !=
          napi_ok ||
      (type != napi_uint32_array && type != napi_int32_array)) {
    return Fail(env, "discard: offsets must be a Uint32Array or an Int32Array");
  }
  size_t count = std::min<size_t>(available, info[2].As<Napi::Number>().Uint32Value());
  const uint32_t* first = static_cast<const uint32_t*>(pointer);
  std::vector<uint32_t> offsets(first, first + count);
  std::sort(offsets.begin(), offsets.end());

  const uintptr_t skip = AlignOffsetOf(data);
  const size_t pages = length > skip ? (length - skip) / kPageSize : 0;
  uint8_t* base = data + skip;
  double given = 0;
  for (size_t i = 0; i < offsets.size();) {
    size_t start = offsets[i];
    size_t end = start + 1;
    for (i++; i < offsets.size() && offsets[i] <= end; i++) {
      end = static_cast<size_t>(offsets[i]) + 1;
    }
    // A page outside the view is a defect of the caller: never touch what lies there.
    if (end > pages) return Fail(env, "discard: an offset lies outside the buffer");
    if (madvise(base + start * kPageSize, (end - start) * kPageSize, MADV_DONTNEED) == 0) {
      given += static_cast<double>(end - start);
    }
  }
  return Napi::Number::New(env, given);
}

// libfuse 2 starts a thread for each request in flight and ends those beyond ten that are idle.
// fuse-native keeps a buffer with an async handle in it for each thread that there ever was: under
// load thousands, and every wake-up of the loop looks at all of them. Its key for thread-specific
// data has no destructor. It is the only key that its load creates, so it lies between two of ours,
// and can be made again, with the same number and with a destructor, before there is a thread.
std::mutex ended_mutex;
std::vector<uint8_t*> ended;   // by the threads themselves
std::vector<uint8_t*> closed;  // their handles are: nobody refers to them any more

void ThreadEnded(void* locals) {
  std::lock_guard<std::mutex> lock(ended_mutex);
  ended.push_back(static_cast<uint8_t*>(locals));
}

pthread_key_t first_key;

// Makes the key with this number again. New keys get the lowest free number, or the next one.
bool MakeKey(pthread_key_t wanted) {
  std::vector<pthread_key_t> others;
  pthread_key_t key;
  bool made = false;
  while (!made && pthread_key_create(&key, ThreadEnded) == 0) {
    made = key == wanted;
    if (!made) others.push_back(key);
  }
  for (pthread_key_t other : others) pthread_key_delete(other);
  return made;
}

Napi::Value WatchThreads(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsBoolean()) return Fail(env, "watchThreads: a boolean");
  if (info[0].As<Napi::Boolean>().Value()) {
    return Napi::Boolean::New(env, pthread_key_create(&first_key, nullptr) == 0);
  }
  pthread_key_t last_key;
  bool watched = false;
  if (pthread_key_create(&last_key, nullptr) == 0) {
    if (last_key == first_key + 2) {
      pthread_key_delete(first_key + 1);
      watched = MakeKey(first_key + 1);
    }
    pthread_key_delete(last_key);
  }
  pthread_key_delete(first_key);
  return Napi::Boolean::New(env, watched);
}

void HandleClosed(uv_handle_t* handle) { closed.push_back(static_cast<uint8_t*>(handle->data)); }

// fuse_thread_locals_t of fuse-native 2.2.6: a reference to its own buffer first, the handle last.
Napi::Value EndedThreads(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsNumber()) return Fail(env, "endedThreads: a size is needed");
  const size_t size = info[0].As<Napi::Number>().Uint32Value();
  std::vector<uint8_t*> now;
  {
    std::lock_guard<std::mutex> lock(ended_mutex);
    now.swap(ended);
  }
  for (uint8_t* locals : now) {
    if (size < sizeof(napi_ref) + sizeof(uv_async_t)) break;
    auto* handle = reinterpret_cast<uv_handle_t*>(locals + size - sizeof(uv_async_t));
    // Whatever else it may be is left as it is.
    if (handle->data != locals || handle->type != UV_ASYNC || uv_is_closing(handle)) continue;
    uv_close(handle, HandleClosed);
  }
  Napi::Array addresses = Napi::Array::New(env, closed.size());
  for (size_t i = 0; i < closed.size(); i++) {
    napi_delete_reference(env, *reinterpret_cast<napi_ref*>(closed[i]));
    addresses.Set(i, Napi::Number::New(env, static_cast<double>(
                                                reinterpret_cast<uintptr_t>(closed[i]))));
  }
  closed.clear();
  return addresses;
}

Napi::Value AddressOf(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint8_t* data = nullptr;
  size_t length = 0;
  if (info.Length() < 1 || !ViewOf(info[0], &data, &length)) {
    return Fail(env, "addressOf: a Uint8Array is needed");
  }
  return Napi::Number::New(env, static_cast<double>(reinterpret_cast<uintptr_t>(data)));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("preload", Napi::Function::New(env, Preload, "preload"));
  exports.Set("setCloexec", Napi::Function::New(env, SetCloexec, "setCloexec"));
  exports.Set("umount", Napi::Function::New(env, Umount, "umount"));
  exports.Set("punchHole", Napi::Function::New(env, PunchHole, "punchHole"));
  exports.Set("alignOffset", Napi::Function::New(env, AlignOffset, "alignOffset"));
  exports.Set("discard", Napi::Function::New(env, Discard, "discard"));
  exports.Set("watchThreads", Napi::Function::New(env, WatchThreads, "watchThreads"));
  exports.Set("endedThreads", Napi::Function::New(env, EndedThreads, "endedThreads"));
  exports.Set("addressOf", Napi::Function::New(env, AddressOf, "addressOf"));
  exports.Set("exec", Napi::Function::New(env, Exec, "exec"));
  return exports;
}

}  // namespace

NODE_API_MODULE(pageblock, Init)
