{
  'targets': [
    {
      'target_name': 'pageblock',
      'sources': ['native/addon.cc'],
      'include_dirs': ["<!(node -p \"require('node-addon-api').include_dir\")"],
      'defines': ['NAPI_VERSION=8', 'NAPI_DISABLE_CPP_EXCEPTIONS'],
      'cflags': ['-Wall', '-Wextra', '-Werror'],
      'cflags_cc': ['-std=c++17'],
      'conditions': [
        ['OS=="linux"', { 'libraries': ['-ldl'] }],
      ],
    },
  ],
}
