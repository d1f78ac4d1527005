# The CUDA backend's sources, compiled as C++ against the simulator in cudasim/, and the tests that run on it. Where
# nvcc built the same sources (moezoo_cuda_nvcc, core/ops/cuda/cuda.cmake), the same tests also run on the real device.
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    return()
endif()
# TSan checks kernels for races. Starting a fiber costs g++ 12's runtime about 0.1 ms, 30 times what clang's needs.
if(MOEZOO_SANITIZE MATCHES thread AND NOT CMAKE_CXX_COMPILER_ID STREQUAL Clang)
    message(STATUS "cudasim: no race check of the kernels, which takes clang")
    return()
endif()
set(cudasim ${CMAKE_CURRENT_SOURCE_DIR}/cudasim)
file(GLOB cudasim_sources CONFIGURE_DEPENDS ${cudasim}/src/*.cpp)
file(GLOB cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/core/ops/cuda/*.cu)

# The simulator has to know which sanitizer watches the kernels. Its own switching of stacks is not watched by TSan.
add_library(moezoo_cudasim STATIC ${cudasim_sources})
target_include_directories(moezoo_cudasim SYSTEM PUBLIC ${cudasim}/include)
target_compile_options(moezoo_cudasim PRIVATE -Wall -Wextra -Wno-unused-variable
    $<$<CXX_COMPILER_ID:Clang>:-Wno-unused-const-variable> $<$<BOOL:${MOEZOO_WERROR}>:-Werror>)
if(MOEZOO_SANITIZE MATCHES address)
    # Under ASan each shared array has a red zone of its own instead of a place in a common section.
    target_compile_definitions(moezoo_cudasim PUBLIC CUDASIM_ASAN CUDASIM_PLAIN_SHARED)
    target_compile_options(moezoo_cudasim PRIVATE -fsanitize=${MOEZOO_SANITIZE})
elseif(MOEZOO_SANITIZE MATCHES thread)
    target_compile_definitions(moezoo_cudasim PUBLIC CUDASIM_TSAN)
endif()

set_source_files_properties(${cuda_sources} PROPERTIES LANGUAGE CXX)
add_library(moezoo_cuda_sim STATIC ${cuda_sources})
target_link_libraries(moezoo_cuda_sim PUBLIC moezoo_core PRIVATE moezoo_cudasim)
target_compile_options(moezoo_cuda_sim PRIVATE -xc++)
# As with nvcc, whose generated code trips -Wpedantic.
set_source_files_properties(${cuda_sources} PROPERTIES COMPILE_OPTIONS "-Wno-pedantic")

# Test NAME (cudasim/test_NAME.c) on the simulated device and, where it could be built, on a real one.
function(moezoo_cuda_test name)
    set(files ${cudasim}/test_${name}.c ${ARGN})
    add_executable(test_${name} ${files})
    target_link_libraries(test_${name} PRIVATE moezoo_cuda_sim moezoo_testing)
    target_compile_definitions(test_${name} PRIVATE MOEZOO_TESTS_DIR="${CMAKE_CURRENT_SOURCE_DIR}")
    add_test(NAME cudasim.${name} COMMAND test_${name})
    foreach(order reverse 7)
        add_test(NAME cudasim.${name}.${order} COMMAND test_${name})
        set_tests_properties(cudasim.${name}.${order} PROPERTIES ENVIRONMENT CUDASIM_ORDER=${order})
    endforeach()
    set_tests_properties(cudasim.${name} cudasim.${name}.reverse cudasim.${name}.7 PROPERTIES LABELS cudasim TIMEOUT 300)
    if(TARGET moezoo_cuda_nvcc)
        add_executable(test_${name}_gpu ${files})
        target_link_libraries(test_${name}_gpu PRIVATE moezoo_cuda_nvcc moezoo_testing)
        target_compile_definitions(test_${name}_gpu PRIVATE MOEZOO_TESTS_DIR="${CMAKE_CURRENT_SOURCE_DIR}")
        add_test(NAME cuda.${name} COMMAND test_${name}_gpu)
        set_tests_properties(cuda.${name} PROPERTIES LABELS cuda SKIP_RETURN_CODE 77 TIMEOUT 300)
    endif()
endfunction()

moezoo_cuda_test(cuda_ops ${cudasim}/device_fixture.c)
if(NOT MOEZOO_SANITIZE MATCHES thread) # a launch has more threads than the simulator takes under TSan
    moezoo_cuda_test(cuda_time_moe)
    # One after the other, the first allocations of device memory that loading and forecasting make fail.
    foreach(n 1 2 3 4 5 6 7 8)
        add_test(NAME cudasim.no_memory.${n} COMMAND test_cuda_time_moe)
        set_tests_properties(cudasim.no_memory.${n} PROPERTIES LABELS cudasim ENVIRONMENT CUDASIM_FAIL_MALLOC_AFTER=${n}
            PASS_REGULAR_EXPRESSION "bytes of device memory: cudaErrorMemoryAllocation")
    endforeach()
endif()

# Without a device the backend says so and opens nothing.
add_test(NAME cudasim.no_device COMMAND test_cuda_ops)
set_tests_properties(cudasim.no_device PROPERTIES LABELS cudasim ENVIRONMENT CUDASIM_NO_GPU=1
    PASS_REGULAR_EXPRESSION "skipped: cuda: looking for a device: ")

if(NOT MOEZOO_CUDA STREQUAL OFF AND NOT MOEZOO_SANITIZE)
    foreach(arch 80 90)
        set(nvcc none)
        if(TARGET moezoo_cuda_nvcc)
            set(nvcc ${CMAKE_CUDA_COMPILER})
        endif()
        add_test(NAME cuda.spills_sm${arch} COMMAND ${cudasim}/check_spills.sh ${nvcc} ${PROJECT_SOURCE_DIR} ${arch})
        set_tests_properties(cuda.spills_sm${arch} PROPERTIES LABELS cuda SKIP_RETURN_CODE 77 TIMEOUT 300)
    endforeach()
endif()
