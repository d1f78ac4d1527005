# golden_check and one test per case folder and backend; further instruction sets run the small cases that use every op.
add_executable(golden_check golden/golden_check.c golden/golden_time_moe.c golden/golden_time_moe_train.c golden/made_checkpoint.c golden/sha256.c)
target_link_libraries(golden_check PRIVATE moezoo_testing)
add_executable(make_checkpoint golden/make_checkpoint.c golden/made_checkpoint.c golden/sha256.c)
target_link_libraries(make_checkpoint PRIVATE moezoo_testing)

target_sources(test_moe_layers PRIVATE golden/moe_layer.c)
target_sources(test_patch_moe PRIVATE golden/patch_moe_reference.c golden/made_checkpoint.c golden/sha256.c)
target_sources(test_default_model PRIVATE golden/patch_moe_reference.c)

function(golden_test family case variant)
    set(name golden.${family}.${case}.${variant})
    add_test(NAME ${name} COMMAND golden_check ${ARGN} ${CMAKE_CURRENT_SOURCE_DIR}/golden/${family}/${case})
    set_tests_properties(${name} PROPERTIES LABELS golden SKIP_RETURN_CODE 77 TIMEOUT 300)
endfunction()

foreach(case tiny gqa dense tiny-bf16 tiny-sharded tiny-bin tiny-bin-sharded f16-all-experts bin-one-expert train)
    golden_test(time-moe ${case} cpu)
    golden_test(time-moe ${case} reference --backend reference)
endforeach()
golden_test(time-moe shape50m cpu)
foreach(isa scalar avx2 avx512 avx512-bf16 amx)
    foreach(case tiny gqa tiny-bf16 f16-all-experts train)
        golden_test(time-moe ${case} ${isa} --isa ${isa})
    endforeach()
endforeach()
add_test(NAME golden.check.self COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/golden/test_golden_check.sh $<TARGET_FILE:golden_check>
    ${CMAKE_CURRENT_SOURCE_DIR}/golden/time-moe)
set_tests_properties(golden.check.self PROPERTIES LABELS golden TIMEOUT 300)
