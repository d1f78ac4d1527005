# The program as a user meets it: one test per case file, see cli/run.sh. And the option parser.
target_link_libraries(test_cli PRIVATE moezoo_apps)
target_link_libraries(test_recipe PRIVATE moezoo_apps)
target_link_libraries(test_trainer PRIVATE moezoo_apps)
target_link_libraries(test_plot PRIVATE moezoo_apps)
target_link_libraries(test_backtest PRIVATE moezoo_apps)
target_link_libraries(test_expert_usage PRIVATE moezoo_apps)
target_link_libraries(test_forecast_batch PRIVATE moezoo_apps)

add_executable(cli_json cli/cli_json.c)
target_link_libraries(cli_json PRIVATE moezoo_flags PkgConfig::JANSSON)
file(GLOB cli_cases CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cli/case_*.sh)
foreach(case ${cli_cases})
    get_filename_component(stem ${case} NAME_WE)
    string(REGEX REPLACE "^case_" "" name ${stem})
    add_test(NAME cli.${name} COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/cli/run.sh $<TARGET_FILE:moezoo> $<TARGET_FILE:cli_json>
             $<TARGET_FILE:make_checkpoint> ${CMAKE_CURRENT_SOURCE_DIR} ${case})
    set_tests_properties(cli.${name} PROPERTIES LABELS cli SKIP_RETURN_CODE 77 TIMEOUT 300)
endforeach()
